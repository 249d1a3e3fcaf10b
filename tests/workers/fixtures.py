"""Fixtures that start stand-in workers; ``tests/conftest.py`` loads them for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.standins import PoisonWorker, QuickWorker, StandInWorker, Start, starter


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start stand-in workers on the test's database; they end with the test."""
    yield from starter(StandInWorker, redis_url, tmp_path)


@pytest.fixture
def start_quick(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start stand-in workers with short timeouts."""
    yield from starter(QuickWorker, redis_url, tmp_path)


@pytest.fixture
def start_poisoned(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start stand-in workers that some sentences kill, hang or fail, without waiting for them.

    A waiting chunk may end one before it has published its info.
    """
    yield from starter(PoisonWorker, redis_url, tmp_path, until_ready=False)
