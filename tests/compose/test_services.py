"""The command and the health check of each service, run as processes of this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.requests import embed, workers_of_the_dashboard
from tests.compose.services import Processes
from tests.waiting import eventually


@pytest.fixture
def services(tmp_path: Path, tiny_model: Path) -> Iterator[Processes]:
    made = Processes(tmp_path, tiny_model)
    yield made
    made.end()


def test_all_services(services: Processes) -> None:
    for name in ("redis", "worker-cpu0", "gateway", "flower"):
        services.start_healthy(name)
    (row,) = embed(services, ["the lord"])
    assert len(row) == 32
    eventually(lambda: "cpu0@" in workers_of_the_dashboard(services), 30)
    for name in ("flower", "gateway", "worker-cpu0", "redis"):
        assert services.stop(name) == 0, services.log(name)
    # The data directory of the queue.
    assert list((services.directory / "data" / "appendonlydir").iterdir())


@pytest.mark.parametrize("number", [3])
def test_a_worker_of_a_gpu(services: Processes, number: int) -> None:
    """The worker looks for the GPU of its queue; without one it logs so."""
    services.start_healthy("redis")
    name = f"worker-gpu{number}"
    services.start_healthy(name)
    assert f"queue gpu{number}: CUDA_VISIBLE_DEVICES={number}" in services.log(name)
    assert services.stop(name) == 0
