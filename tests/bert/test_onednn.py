"""The private operations of TensorFlow that the network uses on a CPU."""

import platform
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test asks again."""
    from bertq_bert.network import onednn

    onednn.is_usable.cache_clear()
    yield
    onednn.is_usable.cache_clear()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorFlow has oneDNN on x86")
def test_this_tensorflow_has_the_operations() -> None:
    from bertq_bert.network import onednn

    assert onednn.is_usable("float32")


def test_float16_uses_public_operations() -> None:
    from bertq_bert.network import onednn

    assert not onednn.is_usable("float16")


def test_the_variable_of_tensorflow_turns_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from bertq_bert.network import onednn

    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert not onednn.is_usable("float32")


def test_a_tensorflow_without_them_uses_public_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    from bertq_bert.network import onednn

    def refuse(*arguments: object, **options: object) -> None:
        raise tf.errors.NotFoundError(None, None, "Op type not registered")

    monkeypatch.setattr(onednn, "matmul", refuse)
    assert not onednn.is_usable("float32")
