"""The formula for Redis' memory in docs/deploy.md: a bound, and not a wasteful one."""

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
from tests.workers.clocks import ClockWorker, Start, starter

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
WAITING, KEPT = 256 * 128, 256 * 32
TEXTS = [f"{number} " + "the quick brown fox " * 4 for number in range(WAITING)]
LENGTH = sum(map(len, TEXTS)) / len(TEXTS)
DIM = 768


def formula(**values: float) -> float:
    """What the page says, without what Redis takes when it holds nothing."""
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
    yield from starter(ClockWorker, own_url, tmp_path)


def used(redis: Redis) -> int:
    """Bytes that Redis has."""
    found: dict[str, int] = redis.info("memory")
    return found["used_memory"]


def check(redis: Redis, before: int, said: float) -> None:
    # Buffers of connections and of the append-only file shrink in a moment.
    with suppress(AssertionError):
        eventually(lambda: used(redis) - before <= said, 10)
    taken = used(redis) - before
    assert taken <= said <= 2 * taken


def test_sentences_that_wait(own: Redis, own_url: str) -> None:
    before = used(own)
    with BertClient(redis_url=own_url, timeout=60, check_length=False) as client:
        future = client.encode_async(TEXTS)
        eventually(lambda: own.llen("bertq") == WAITING // 256)
        check(own, before, formula(W=WAITING))
        future.cancel()


def test_rows_that_are_kept(own: Redis, own_url: str, start_on_own: Start) -> None:
    before = used(own)
    with BertClient(redis_url=own_url, timeout=60, check_length=False) as client:
        job = client.submit(TEXTS[:KEPT])
        start_on_own(1, "-Q", "cpu0", "--dim", str(DIM))
        eventually(lambda: job.info.finished, 30)
        eventually(lambda: own.hlen(keys.UNACKED) == 0)
        check(own, before, formula(R=KEPT))
