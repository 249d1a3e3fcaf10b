"""Sentences that are sent once for several places, and small requests that share a chunk."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import ClientClosed, ModelMismatch, RemoteError, Timeout, WireError
from bertq.protocol import keys
from bertq.protocol.encoding import PLAIN
from bertq.protocol.wire import ChunkResult
from bertq.state import counters, jobs, worker_info
from bertq_client.futures import Callbacks, EncodeFuture
from bertq_client.outbox.coalescing import MAX_SHARED_ROWS, coalesce
from bertq_client.request import Request
from tests.client.stub import Stub, info, row, rows
from tests.waiting import eventually

# -- the same sentence in several places


def test_a_sentence_is_encoded_once(client: BertClient, stub: Stub) -> None:
    texts = [f"{number % 7} {'x' * (number % 7)}" for number in range(1000)]
    vectors = client.encode(texts)
    np.testing.assert_array_equal(vectors, rows(texts))
    assert vectors.flags.writeable
    assert vectors.flags.owndata
    assert stub.chunks == [7]
    counted = client.server_status["statistic"]
    assert (counted["num_data_request"], counted["num_total_seq"]) == (1, 1000)


def test_duplicates_in_many_chunks_and_as_lists(redis_url: str, stub: Stub) -> None:
    texts = [f"{number * 31 % 700} {'y' * (number % 700 % 50)}" for number in range(3000)]
    with BertClient(redis_url=redis_url, output_fmt="list", timeout=30) as client:
        assert client.encode(texts) == rows(texts).tolist()
        assert client.encode(["a", "b", "a"]) == rows(["a", "b", "a"]).tolist()
    assert sum(stub.chunks) == len(set(texts)) + 2


def test_duplicates_of_token_vectors(client: BertClient, stub: Stub) -> None:
    def tokens(request: Any, redis: Redis, texts: list[str], options: Any) -> ChunkResult:
        longest = max(map(len, texts))
        padded = np.zeros((len(texts), longest, 2), np.float32)
        for index, text in enumerate(texts):
            padded[index, : len(text)] = ord(text[0])
        return ChunkResult(padded, "f")

    stub.encode = tokens  # type: ignore[method-assign]
    texts = [chr(33 + number % 60) * (1 + number % 60) for number in range(400)]
    vectors = client.encode(texts)
    assert vectors.shape == (400, 60, 2)
    for index, text in enumerate(texts):
        assert (vectors[index, : len(text)] == ord(text[0])).all()
        assert (vectors[index, len(text) :] == 0).all()


# -- requests that wait at the same moment


def block_sender(client: BertClient) -> threading.Event:
    """Keep the client's sender busy until the event is set."""
    client.encode(["so that there is a sender"])
    sender = client._session._sender
    assert sender is not None
    leave = threading.Event()
    sender._work.put(lambda: leave.wait(20))
    return leave


def job_of(redis: Redis, size: int) -> str:
    """Return the id of the job with this number of rows."""

    def found() -> list[str]:
        records = list(redis.scan_iter("bertq:job:*"))
        known = [key for key in records if redis.hget(key, "rows") == str(size).encode()]
        return [key.decode().removeprefix("bertq:job:") for key in known]

    eventually(found)
    (job_id,) = found()
    return job_id


def together(client: BertClient, *requests: list[Any]) -> list[EncodeFuture]:
    """Make requests that wait at the same moment."""
    leave = block_sender(client)
    futures = [client.encode_async(texts) for texts in requests]
    leave.set()
    return futures


def test_small_requests_share_a_chunk(client: BertClient, stub: Stub, redis: Redis) -> None:
    requests = [["a"], ["b", "c"], ["a", "d", "b"], ["e"] * 4]
    futures = together(client, *requests)
    for future, texts in zip(futures, requests, strict=True):
        vectors = future.result(20)
        np.testing.assert_array_equal(vectors, rows(texts))
        assert vectors.flags.owndata
        assert vectors.flags.writeable
    assert stub.chunks == [1, 5]  # a, b, c, d, e
    counted = client.server_status["statistic"]
    assert (counted["num_data_request"], counted["num_total_seq"]) == (5, 11)
    assert (counted["min_size_per_request"], counted["max_size_per_request"]) == (1, 4)
    client.close()
    assert not list(redis.scan_iter("bertq:job:*"))
    assert not list(redis.scan_iter("celery-task-meta-*"))


def test_many_share_chunks_in_the_order_of_their_arrival(client: BertClient, stub: Stub) -> None:
    requests = [[f"{number}"] for number in range(100)]
    futures = together(client, *requests)
    for number, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(20), rows([f"{number}"]))
    assert stub.chunks == [1] + [MAX_SHARED_ROWS] * (100 // MAX_SHARED_ROWS) + [
        100 % MAX_SHARED_ROWS
    ]


def test_large_requests_and_other_queues_are_apart(redis_url: str, redis: Redis) -> None:
    worker_info.publish(redis, info(["bertq", "bertq.small", "gpu1"]))
    with BertClient(redis_url=redis_url, timeout=20) as client:
        client.encode_async(["so that there is a sender"])
        eventually(lambda: redis.llen("bertq.small") == 1)
        leave = threading.Event()
        sender = client._session._sender
        assert sender is not None
        sender._work.put(lambda: leave.wait(20))
        client.encode_async([f"{number}" for number in range(17)])
        client.encode_async(["a"])
        client._queue = "gpu1"
        client.encode_async(["b"])
        client._queue = None
        client.encode_async(["c"])
        leave.set()
        eventually(lambda: redis.llen("gpu1") == redis.llen("bertq") == 1)
        eventually(lambda: redis.llen("bertq.small") == 2)


def test_token_vectors_share_no_chunk(client: BertClient, stub: Stub, redis: Redis) -> None:
    def tokens(request: Any, redis: Redis, texts: list[str], options: Any) -> ChunkResult:
        stub.chunks.append(len(texts))
        return ChunkResult(np.ones((len(texts), max(map(len, texts)), 2), np.float32), "f")

    stub.encode = tokens  # type: ignore[method-assign]
    # The worker's info says otherwise; the rows show the difference.
    futures = together(client, ["a"], ["bcd"])
    assert [future.result(20).shape for future in futures] == [(1, 1, 2), (1, 3, 2)]
    assert stub.chunks == [1, 2, 1, 1]
    published = info(["bertq", "bertq.small"])
    worker_info.publish(redis, replace(published, row_shape=[None, 2]))
    client.worker_directory.expire()
    futures = together(client, ["a"], ["bcd"])
    assert [future.result(20).shape for future in futures] == [(1, 1, 2), (1, 3, 2)]
    assert stub.chunks[4:] == [1, 1, 1]


def test_only_the_failing_request_fails(client: BertClient, stub: Stub) -> None:
    good, bad, other = together(client, ["a"], ["b", "!fail"], ["c", "d"])
    np.testing.assert_array_equal(good.result(20), rows(["a"]))
    np.testing.assert_array_equal(other.result(20), rows(["c", "d"]))
    with pytest.raises(RemoteError, match="asked to fail"):
        bad.result(20)
    assert stub.chunks == [1, 5, 1, 2, 2]
    # Each was counted once.
    assert client.server_status["statistic"]["num_data_request"] == 4
    np.testing.assert_array_equal(client.encode(["after"]), rows(["after"]))


@pytest.mark.parametrize("error", [ModelMismatch("another model"), ValueError("rows")])
def test_an_error_of_the_chunk_fails_all_its_requests(
    client: BertClient, stub: Stub, error: Exception
) -> None:
    real = stub.encode

    def fail(request: Any, redis: Redis, texts: list[str], options: Any) -> ChunkResult:
        if isinstance(error, ModelMismatch):
            raise error
        return ChunkResult(np.ones((len(texts) + 1, 2), np.float32), "f")

    leave = block_sender(client)
    futures = [client.encode_async([text]) for text in "abc"]
    stub.encode = fail  # type: ignore[method-assign]
    leave.set()
    errors = [future.exception(20) for future in futures]
    expected = ModelMismatch if isinstance(error, ModelMismatch) else WireError
    assert {type(one) for one in errors} == {expected}
    assert len(set(map(id, errors))) == 3
    stub.encode = real  # type: ignore[method-assign]
    np.testing.assert_array_equal(client.encode(["after"]), rows(["after"]))


def test_one_is_cancelled_and_the_others_go_on(
    client: BertClient, stub: Stub, redis: Redis
) -> None:
    leave = block_sender(client)
    stub.gate.clear()
    early, first, second, third = (client.encode_async([text]) for text in "abcd")
    early.cancel()
    leave.set()
    job_id = job_of(redis, 3)
    assert first.cancel()
    time.sleep(0.1)
    assert jobs.read(redis, job_id).is_active
    stub.gate.set()
    np.testing.assert_array_equal(second.result(20), rows(["c"]))
    np.testing.assert_array_equal(third.result(20), rows(["d"]))
    assert stub.chunks == [1, 3]


def test_cancelling_all_cancels_the_job(client: BertClient, stub: Stub, redis: Redis) -> None:
    leave = block_sender(client)
    stub.gate.clear()
    futures = [client.encode_async([text]) for text in "abc"]
    leave.set()
    job_id = job_of(redis, 3)
    assert all(future.cancel() for future in futures)
    eventually(lambda: redis.hget(keys.job(job_id), "state") == b"cancelled")
    stub.gate.set()
    eventually(lambda: stub.dropped == [keys.task_id(job_id, 0)])
    assert stub.chunks == [1]


def test_each_request_has_its_own_timeout(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url, timeout=60) as client:
        leave = block_sender(client)
        stub.gate.clear()
        waiting = client.encode_async(["a"])
        client._timeout = 0.3
        overdue = client.encode_async(["b"])
        leave.set()
        with pytest.raises(Timeout, match="0 of 1 chunks are answered, and 1 workers take"):
            overdue.result(20)
        assert not waiting.done()
        stub.gate.set()
        np.testing.assert_array_equal(waiting.result(20), rows(["a"]))
        assert stub.chunks == [1, 2]


def test_closing_fails_all_of_them(redis_url: str, stub: Stub, redis: Redis) -> None:
    client = BertClient(redis_url=redis_url, timeout=60)
    leave = block_sender(client)
    stub.gate.clear()
    futures = [client.encode_async([text]) for text in "abc"]
    leave.set()
    job_of(redis, 3)
    client.close()
    assert {type(future.exception(0)) for future in futures} == {ClientClosed}
    assert not list(redis.scan_iter("bertq:job:*"))
    stub.gate.set()
    eventually(lambda: len(stub.dropped) == 1)


def test_threads_that_poll_their_futures(redis_url: str, stub: Stub, redis: Redis) -> None:
    with BertClient(redis_url=redis_url, timeout=60) as client:
        leave = block_sender(client)

        def work(number: int) -> None:
            for turn in range(20):
                text = f"{number:02d} {turn}"
                np.testing.assert_array_equal(client.encode([text]), row(text)[None])

        with ThreadPoolExecutor(32) as pool:
            done = pool.map(work, range(32))
            eventually(lambda: len(client._session.context.registry._requests) == 32)
            leave.set()
            assert list(done) == [None] * 32
    assert stub.chunks[:3] == [1, 16, 16]
    assert sum(stub.chunks) == 1 + 32 * 20
    assert counters.read(redis)["num_data_request"] == 1 + 32 * 20


# -- which requests share a chunk


def request(size: int, characters: int = 1) -> Request:
    """A request of ``size`` sentences of ``characters`` characters each."""
    future = EncodeFuture(Callbacks(), 0, size, lambda: None)
    texts = ("x" * characters,) * size
    return Request(0, texts, "bertq.small", PLAIN, future, None, False, True)


def test_groups_are_bounded() -> None:
    groups = coalesce([request(size) for size in (3, 9, 4, 16, 2)], [])
    assert [[len(one.texts) for one in group] for group in groups] == [[3, 9, 4], [16], [2]]
    small = [info([]), info([], max_batch_size=4)]
    assert [len(group) for group in coalesce([request(1) for _ in range(9)], small)] == [4, 4, 1]
    tokens = [replace(info([]), row_shape=[25, 4])]
    assert [len(group) for group in coalesce([request(1), request(1)], tokens)] == [1, 1]
    long = [request(1, 3 * 2**20) for _ in range(3)]
    assert [len(group) for group in coalesce(long, [])] == [1, 1, 1]
