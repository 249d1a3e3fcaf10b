"""Workers that are killed, frozen or hang in the middle of a request: it is answered."""

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
from tests.workers import standins
from tests.workers.standins import Start, encoded_chunks

CHUNKS = 6
TEXTS = standins.sentences(256 * CHUNKS)
MINUTE = 60_000  # milliseconds for 256 rows: never done


def send(redis: Redis, client: BertClient, texts: list[str], taken: int) -> EncodeFuture:
    """Send texts, and wait until a worker has taken ``taken`` chunks of them."""
    future = client.encode_async(texts)
    eventually(lambda: redis.hlen("unacked") == taken)
    return future


def test_another_worker_gets_the_chunks_of_a_killed_one(
    redis: Redis, client: BertClient, start: Start
) -> None:
    first = start(MINUTE, "-Q", "cpu0")
    future = send(redis, client, TEXTS, taken=2)
    first.kill()
    second = start(1, "-Q", "cpu1")
    eventually(lambda: len(encoded_chunks(second)) == CHUNKS - 2)
    assert not future.done()  # the killed worker has two chunks
    # With the default settings: 15 s, and the time of a sweep.
    np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS))
    second.wait_for(lambda: len(encoded_chunks(second)) == CHUNKS)
    check_nothing_is_left(redis)


def test_a_restarted_worker_gets_its_chunks_again(
    redis: Redis, client: BertClient, start_quick: Start
) -> None:
    first = start_quick(MINUTE, "-Q", "cpu0")
    future = client.encode_async(TEXTS)
    small = client.encode_async(TEXTS[:3])
    eventually(lambda: redis.hlen("unacked") == 3)
    first.kill()
    start_quick(1, "-Q", "cpu0")
    np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS))
    np.testing.assert_array_equal(small.result(30), standins.rows(TEXTS[:3]))
    check_nothing_is_left(redis)


def test_a_long_chunk_is_encoded_once(redis: Redis, client: BertClient, start_quick: Start) -> None:
    first = start_quick(8000 * quick.TIMEOUT, "-Q", "cpu0")
    texts = TEXTS[:256]
    future = send(redis, client, texts, taken=1)
    second = start_quick(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(30), standins.rows(texts))
    first.wait_for(lambda: len(encoded_chunks(first)) == 1)
    assert encoded_chunks(second) == []
    check_nothing_is_left(redis)


def test_a_stopping_worker_finishes_its_chunk(
    redis: Redis, client: BertClient, start_quick: Start
) -> None:
    first = start_quick(4000 * quick.TIMEOUT, "-Q", "cpu0")
    texts = TEXTS[:256]
    future = send(redis, client, texts, taken=1)
    second = start_quick(1, "-Q", "cpu1")
    first.process.send_signal(signal.SIGTERM)
    np.testing.assert_array_equal(future.result(30), standins.rows(texts))
    assert first.process.wait(20) == 0
    assert encoded_chunks(second) == []
    assert len(encoded_chunks(first)) == 1
    assert left(redis) == []


def test_a_chunk_of_a_frozen_worker_is_encoded_twice(
    redis: Redis, client: BertClient, start_quick: Start
) -> None:
    first = start_quick(3000 * quick.TIMEOUT, "-Q", "cpu0")
    texts = TEXTS[:256]
    future = send(redis, client, texts, taken=1)
    os.kill(first.process.pid, signal.SIGSTOP)
    second = start_quick(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(30), standins.rows(texts))
    second.wait_for(lambda: len(encoded_chunks(second)) == 1)
    os.kill(first.process.pid, signal.SIGCONT)
    # It drops the chunk or stores a second answer, and then works as before.
    np.testing.assert_array_equal(client.encode(TEXTS), standins.rows(TEXTS))
    check_nothing_is_left(redis)


def test_a_worker_that_hangs_ends(redis: Redis, client: BertClient, start_quick: Start) -> None:
    began = time.monotonic()
    first = start_quick(MINUTE, "-Q", "cpu0", "--batch-timeout", "2")
    future = send(redis, client, TEXTS, taken=2)
    assert first.process.wait(20) == os.EX_SOFTWARE
    assert time.monotonic() - began > 2
    assert first.log.splitlines()[-1].endswith(
        "this worker ends: the graph has computed one batch for more than 2 s "
        "(BERTQ_BATCH_TIMEOUT); other workers will receive its chunks"
    )
    start_quick(1, "-Q", "cpu1", "--batch-timeout", "2")
    np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS))
    check_nothing_is_left(redis)
