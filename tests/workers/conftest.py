from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.clocks import ClockWorker, Start


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start workers on the test's database; they end with the test."""
    workers: list[ClockWorker] = []

    def make(batch_ms: float, *options: str) -> ClockWorker:
        log = tmp_path / f"worker-{len(workers)}.log"
        workers.append(ClockWorker(redis_url, log, batch_ms, *options))
        workers[-1].wait_ready()
        return workers[-1]

    yield make
    for worker in workers:
        worker.kill()
