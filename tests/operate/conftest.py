from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.conftest import QuickWorker
from tests.workers.standins import Start, starter


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start stand-in workers that look for requests each second; they end with the test."""
    yield from starter(QuickWorker, redis_url, tmp_path)
