"""The formula for Redis' memory in docs/deploy.md: an upper bound, and at most twice the memory."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from bertq import BertClient
from bertq.protocol import keys
from tests.conftest import StartServer
from tests.waiting import eventually
from tests.workers.standins import StandInWorker, Start, starter

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
WAITING, STORED = 256 * 128, 256 * 32
TEXTS = [f"{number} " + "the quick brown fox " * 4 for number in range(WAITING)]
LENGTH = sum(map(len, TEXTS)) / len(TEXTS)
DIM = 768


def formula(**values: float) -> float:
    """Evaluate the formula of the page, without the memory of an empty Redis."""
    (text,) = re.findall(r"^memory = 20e6 \+ (.*)$", PAGE.read_text(), re.MULTILINE)
    return float(eval(text, {}, {"W": 0, "R": 0, "C": LENGTH, "D": DIM} | values))


@pytest.fixture
def own_url(start_own_server: StartServer) -> str:
    return f"redis://127.0.0.1:{start_own_server(appendonly='yes').port}/0"


@pytest.fixture
def own(own_url: str) -> Iterator[Redis]:
    with Redis.from_url(own_url) as connection:
        yield connection


@pytest.fixture
def start_on_own(own_url: str, tmp_path: Path) -> Iterator[Start]:
    yield from starter(StandInWorker, own_url, tmp_path)


def used(redis: Redis) -> int:
    """Return the bytes that Redis uses."""
    found: dict[str, int] = redis.info("memory")
    return found["used_memory"]


def check(redis: Redis, before: int, bound: float) -> None:
    # Buffers of connections and of the append-only file shrink after a moment.
    with suppress(AssertionError):
        eventually(lambda: used(redis) - before <= bound, 10)
    added = used(redis) - before
    assert added <= bound <= 2 * added


def test_waiting_sentences(own: Redis, own_url: str) -> None:
    before = used(own)
    with BertClient(redis_url=own_url, timeout=60, check_length=False) as client:
        future = client.encode_async(TEXTS)
        eventually(lambda: own.llen("bertq") == WAITING // 256)
        check(own, before, formula(W=WAITING))
        future.cancel()


def test_rows_of_a_durable_job(own: Redis, own_url: str, start_on_own: Start) -> None:
    before = used(own)
    with BertClient(redis_url=own_url, timeout=60, check_length=False) as client:
        job = client.submit(TEXTS[:STORED])
        start_on_own(1, "-Q", "cpu0", "--dim", str(DIM))
        eventually(lambda: job.info.finished, 30)
        eventually(lambda: own.hlen(keys.UNACKED) == 0)
        check(own, before, formula(R=STORED))
