import pytest

pytest.register_assert_rewrite(
    *(f"tests.migration.{name}_rows" for name in ("call", "client", "gone", "model", "server"))
)
