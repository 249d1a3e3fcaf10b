"""Workers that are stopped in the middle of their work, and lose nothing."""

import signal
import time

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import Start, encoded_chunks

CHUNKS = 6
TEXTS = standins.sentences(256 * CHUNKS)


def test_a_warm_shutdown_finishes_taken_chunks(redis_url: str, redis: Redis, start: Start) -> None:
    first = start(300, "-Q", "cpu0")
    with BertClient(redis_url=redis_url, timeout=60) as client:
        future = client.encode_async(TEXTS)
        first.wait_for(lambda: bool(encoded_chunks(first)))
        held = redis.hlen("unacked")
        assert 0 < held <= 3
        assert first.stop() == 0
        assert redis.hlen("unacked") == redis.zcard("unacked_index") == 0
        assert 1 < len(encoded_chunks(first)) < CHUNKS
        assert redis.llen("bertq") == CHUNKS - len(encoded_chunks(first))
        second = start(1, "-Q", "cpu1")
        np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS))
    # Nothing was computed twice.
    assert len(encoded_chunks(first, second)) == len(set(encoded_chunks(first, second))) == CHUNKS
    assert "Traceback" not in first.log


def test_a_warm_shutdown_acknowledges_each_chunk_at_once(
    redis_url: str, redis: Redis, start: Start
) -> None:
    # Otherwise other workers would receive it before the last one is answered.
    worker = start(1000, "-Q", "cpu0")
    with BertClient(redis_url=redis_url, timeout=60) as client:
        client.encode_async(TEXTS)
        worker.wait_for(lambda: bool(encoded_chunks(worker)))
        worker.process.send_signal(signal.SIGTERM)
        seen = set()
        while worker.process.poll() is None:
            seen.add(redis.hlen("unacked"))
            time.sleep(0.01)
    answered = len(encoded_chunks(worker))
    assert answered > 1
    assert seen >= set(range(1, answered))


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGQUIT],
        [signal.SIGINT, signal.SIGINT],
        [signal.SIGTERM, signal.SIGQUIT],
    ],
    ids=["quit", "int twice", "term and quit"],
)
def test_a_cold_shutdown_returns_unfinished_chunks(
    redis_url: str, redis: Redis, start: Start, signals: list[signal.Signals]
) -> None:
    first = start(60_000, "-Q", "cpu0")
    with BertClient(redis_url=redis_url, timeout=60) as client:
        future = client.encode_async(TEXTS)
        small = client.encode_async(TEXTS[:5])
        eventually(lambda: redis.hlen("unacked") == 3)
        eventually(lambda: redis.llen("bertq") == CHUNKS - 2)
        for number in signals:
            first.process.send_signal(number)
            time.sleep(0.5)
        # Its current batch takes a minute.
        first.process.wait(10)
        assert redis.hlen("unacked") == redis.zcard("unacked_index") == 0
        assert (redis.llen("bertq"), redis.llen("bertq.small")) == (CHUNKS, 1)
        second = start(1, "-Q", "cpu1")
        np.testing.assert_array_equal(small.result(30), standins.rows(TEXTS[:5]))
        np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS))
    assert encoded_chunks(first) == []
    assert len(encoded_chunks(second)) == CHUNKS + 1
    assert "Traceback" not in first.log


def test_an_idle_worker_ends_at_once(start: Start) -> None:
    worker = start(1, "-Q", "cpu0")
    assert worker.stop(5) == 0
