"""Chunks that kill, hang or fail their worker: only these chunks fail."""

import re

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import RemoteError
from bertq.protocol import keys
from bertq.state import jobs
from bertq_client.futures import EncodeFuture
from tests.chaos import poison
from tests.chaos.leftovers import check_nothing_is_left
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker, Start, encoded_chunks

TEXTS = standins.sentences(256)


def poisoned(word: str, count: int, *places: int) -> list[str]:
    return [f"{text} {word}" if n in places else text for n, text in enumerate(TEXTS[:count])]


def restart_until_done(start: Start, future: EncodeFuture) -> list[StandInWorker]:
    """Start a worker whenever the last one has died; return those that died."""
    dead = []
    while not future.done():
        worker = start(20, "-Q", "cpu0", "--batch-timeout", "1")
        eventually(lambda: future.done() or worker.process.poll() is not None, 90)  # noqa: B023
        if worker.process.poll() is not None:
            dead.append(worker)
    return dead


@pytest.mark.parametrize("word", [poison.KILL, poison.HANG])
def test_a_chunk_that_kills_its_worker(
    redis: Redis, client: BertClient, start_poisoned: Start, word: str
) -> None:
    guilty = client.encode_async(poisoned(word, 40, 7, 30))
    neighbours = [client.encode_async(TEXTS[n : n + 30]) for n in (0, 50)]
    small = client.encode_async(TEXTS[100:103])
    eventually(lambda: redis.llen("bertq") == 3 and redis.llen("bertq.small") == 1)
    dead = restart_until_done(start_poisoned, guilty)
    with pytest.raises(RemoteError, match="begun 3 times, and each time its worker") as caught:
        guilty.result(0)
    assert caught.value.type_name == "PoisonedChunk"
    assert caught.value.rows == tuple(range(40))
    assert len(dead) == 3
    assert all(word not in worker.log and "3 word" not in worker.log for worker in dead)
    for future, first, count in ((neighbours[0], 0, 30), (neighbours[1], 50, 30), (small, 100, 3)):
        rows = standins.rows(TEXTS[first : first + count])
        np.testing.assert_array_equal(future.result(90), rows)
    np.testing.assert_array_equal(client.encode(TEXTS), standins.rows(TEXTS))
    check_nothing_is_left(redis)


def test_a_chunk_that_fails_in_the_graph(
    redis: Redis, client: BertClient, start_poisoned: Start
) -> None:
    texts = standins.sentences(600)
    texts[5] += f" {poison.FAIL}"
    guilty = client.encode_async(texts)
    neighbours = [client.encode_async(TEXTS[n : n + 30]) for n in range(5)]
    eventually(lambda: redis.llen("bertq") == 8)
    worker = start_poisoned(20, "-Q", "cpu0")
    with pytest.raises(RemoteError, match="ArithmeticError: the graph fails") as caught:
        guilty.result(90)
    assert 5 in caught.value.rows
    assert len(caught.value.rows) == 200  # of three chunks
    for n, future in enumerate(neighbours):
        np.testing.assert_array_equal(future.result(90), standins.rows(TEXTS[n : n + 30]))
    assert worker.process.poll() is None
    check_nothing_is_left(redis)


def test_a_batch_that_does_not_fit_into_memory_is_split(
    redis: Redis, client: BertClient, start_poisoned: Start
) -> None:
    texts = poisoned(poison.SHORT, 100, 3)
    worker = start_poisoned(1, "-Q", "cpu0")
    np.testing.assert_array_equal(client.encode(texts), standins.rows(texts))
    worker.wait_for_log("not enough memory for a batch of 100 rows; computing its halves")
    check_nothing_is_left(redis)


def test_chunks_of_inactive_jobs_are_dropped_before_they_are_encoded(
    redis: Redis, client: BertClient, start_poisoned: Start
) -> None:
    futures = [client.encode_async(poisoned(poison.KILL, 20 + n, 1)) for n in range(3)]
    eventually(lambda: redis.llen("bertq") == 3)
    cancelled, gone, answered = (
        re.sub(r"-0$", "", str(sent["id"])) for sent in map(_headers, _waiting(redis))
    )
    # The client would also take the chunk off the queue, because no worker serves it.
    jobs.cancel(redis, cancelled)
    redis.delete(keys.job(gone), keys.job(answered))
    worker = start_poisoned(1, "-Q", "cpu0")
    np.testing.assert_array_equal(client.encode(TEXTS), standins.rows(TEXTS))
    worker.wait_for(lambda: encoded_chunks(worker))
    worker.wait_for_log("dropped, its job is over", count=3)
    assert len(encoded_chunks(worker)) == 1
    assert worker.process.poll() is None
    for future in futures:
        future.cancel()


def _waiting(redis: Redis) -> list[bytes]:
    messages: list[bytes] = redis.lrange("bertq", 0, -1)  # type: ignore[assignment]
    return messages[::-1]


def _headers(message: bytes) -> dict[str, object]:
    import json

    headers: dict[str, object] = json.loads(message)["headers"]
    return headers
