"""Every row of the page for users of bert-as-service, checked on a real service."""

from collections.abc import Iterator

import pytest

from tests.migration import (
    call_rows,
    client_rows,
    deployment,
    gone_rows,
    model_rows,
    rows,
    server_rows,
)

#: Importing these modules registers the rows.
MODULES = (call_rows, client_rows, gone_rows, model_rows, server_rows)

# The first test waits for four workers to start, which a busy machine needs two minutes for.
pytestmark = pytest.mark.timeout(300)

#: Ends the service that the other rows need.
LAST = server_rows.LAST


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[deployment.Deployment]:
    built = deployment.build(tmp_path_factory.mktemp("migration"))
    yield built
    built.end()


def test_each_row_has_a_test_and_each_test_a_row() -> None:
    found = rows.names()
    assert len(found) == len(set(found)) > 80
    assert set(found) == set(rows.CHECKS)


@pytest.mark.parametrize("name", sorted(rows.CHECKS, key=lambda name: (name == LAST, name)))
def test_row(name: str, service: deployment.Deployment) -> None:
    check = rows.CHECKS[name]
    if check not in service.passed:  # several rows may have one check
        check(service)
        service.passed.add(check)
