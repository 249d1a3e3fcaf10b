from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.standins import StandInWorker, Start, starter


class QuickWorker(StandInWorker):
    program = ("-m", "tests.chaos.quick")


class PoisonWorker(StandInWorker):
    program = ("-m", "tests.chaos.poison")

    def wait_ready(self, timeout: float = 90.0) -> "PoisonWorker":
        """Do not wait: a waiting chunk may end it before it has published its info."""
        return self


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start stand-in workers on the test's database; they end with the test."""
    yield from starter(StandInWorker, redis_url, tmp_path)


@pytest.fixture
def start_quick(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start stand-in workers whose visibility timeout is ``quick.TIMEOUT``."""
    yield from starter(QuickWorker, redis_url, tmp_path)


@pytest.fixture
def start_poisoned(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start stand-in workers that some sentences kill, hang or fail."""
    yield from starter(PoisonWorker, redis_url, tmp_path)
