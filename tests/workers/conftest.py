from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.standins import StandInWorker, Start, starter


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start clock workers on the test's database; they end with the test."""
    yield from starter(StandInWorker, redis_url, tmp_path)
