"""Workers that are killed, frozen or hang in the middle of a request: its vectors arrive."""

import os
import signal
import time

import numpy as np
from redis import Redis

from bertq import BertClient
from bertq_client.futures import EncodeFuture
from tests.chaos import quick
from tests.chaos.leftovers import check_nothing_is_left, left
from tests.waiting import eventually
from tests.workers import clocks
from tests.workers.clocks import Start, done

CHUNKS = 6
TEXTS = clocks.sentences(256 * CHUNKS)
MINUTE = 60_000  # milliseconds for 256 rows: never done


def send(redis: Redis, client: BertClient, texts: list[str], held: int) -> EncodeFuture:
    """Send texts, and wait until a worker holds so many chunks of them."""
    future = client.encode_async(texts)
    eventually(lambda: redis.hlen("unacked") == held)
    return future


def test_a_killed_workers_chunks_are_taken_up(
    redis: Redis, client: BertClient, start: Start
) -> None:
    first = start(MINUTE, "-Q", "cpu0")
    future = send(redis, client, TEXTS, held=2)
    first.kill()
    second = start(1, "-Q", "cpu1")
    eventually(lambda: len(done(second)) == CHUNKS - 2)
    assert not future.done()  # the others are the dead worker's
    # At the service's own settings: 15 s, the time of a sweep, and a slow machine's.
    np.testing.assert_array_equal(future.result(30), clocks.rows(TEXTS))
    assert len(done(second)) == CHUNKS
    check_nothing_is_left(redis)


def test_a_killed_worker_takes_up_its_own_chunks(
    redis: Redis, client: BertClient, start_quick: Start
) -> None:
    first = start_quick(MINUTE, "-Q", "cpu0")
    future = client.encode_async(TEXTS)
    small = client.encode_async(TEXTS[:3])
    eventually(lambda: redis.hlen("unacked") == 3)
    first.kill()
    start_quick(1, "-Q", "cpu0")
    np.testing.assert_array_equal(future.result(30), clocks.rows(TEXTS))
    np.testing.assert_array_equal(small.result(30), clocks.rows(TEXTS[:3]))
    check_nothing_is_left(redis)


def test_a_long_chunk_is_computed_once(
    redis: Redis, client: BertClient, start_quick: Start
) -> None:
    first = start_quick(8000 * quick.TIMEOUT, "-Q", "cpu0")
    texts = TEXTS[:256]
    future = send(redis, client, texts, held=1)
    second = start_quick(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(30), clocks.rows(texts))
    assert done(second) == []
    assert len(done(first)) == 1
    check_nothing_is_left(redis)


def test_a_stopping_worker_keeps_what_it_finishes(
    redis: Redis, client: BertClient, start_quick: Start
) -> None:
    first = start_quick(4000 * quick.TIMEOUT, "-Q", "cpu0")
    texts = TEXTS[:256]
    future = send(redis, client, texts, held=1)
    second = start_quick(1, "-Q", "cpu1")
    first.process.send_signal(signal.SIGTERM)
    np.testing.assert_array_equal(future.result(30), clocks.rows(texts))
    assert first.process.wait(20) == 0
    assert done(second) == []
    assert len(done(first)) == 1
    assert left(redis) == []


def test_a_frozen_workers_chunks_are_computed_twice(
    redis: Redis, client: BertClient, start_quick: Start
) -> None:
    first = start_quick(3000 * quick.TIMEOUT, "-Q", "cpu0")
    texts = TEXTS[:256]
    future = send(redis, client, texts, held=1)
    os.kill(first.process.pid, signal.SIGSTOP)
    second = start_quick(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(30), clocks.rows(texts))
    assert len(done(second)) == 1
    os.kill(first.process.pid, signal.SIGCONT)
    # It goes on, finds that nobody waits any more or answers in vain, and is as good as before.
    np.testing.assert_array_equal(client.encode(TEXTS), clocks.rows(TEXTS))
    check_nothing_is_left(redis)


def test_a_worker_that_hangs_ends(redis: Redis, client: BertClient, start_quick: Start) -> None:
    began = time.monotonic()
    first = start_quick(MINUTE, "-Q", "cpu0", "--batch-timeout", "2")
    future = send(redis, client, TEXTS, held=2)
    assert first.process.wait(20) == os.EX_SOFTWARE
    assert time.monotonic() - began > 2
    assert first.log.splitlines()[-1].endswith(
        "this worker ends: the graph has computed one batch for more than 2 s "
        "(BERTQ_BATCH_TIMEOUT); other workers will be given its chunks"
    )
    start_quick(1, "-Q", "cpu1", "--batch-timeout", "2")
    np.testing.assert_array_equal(future.result(30), clocks.rows(TEXTS))
    check_nothing_is_left(redis)
