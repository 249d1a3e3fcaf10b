"""Chunks that are lost on the way are sent again; those that wait, or are computed, are not."""

import json
import time

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import LostResult
from bertq.protocol import keys
from bertq_client.futures import EncodeFuture
from bertq_client.inbox import recovery
from tests.client.stub import Stub, rows, stub_worker
from tests.waiting import eventually

TEXTS = [f"{number} {'x' * (number % 60)}" for number in range(256 * 4)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_EVERY", 0.05)
    monkeypatch.setattr(recovery, "LOST_AFTER", 0.5)
    monkeypatch.setattr("bertq_client.worker_directory._FRESH", 0.1)


def send(redis: Redis, client: BertClient, texts: list[str], chunks: int) -> EncodeFuture:
    future = client.encode_async(texts)
    eventually(lambda: redis.llen("bertq") == chunks)
    return future


def sent_times(client: BertClient) -> list[int]:
    return [sent.times for job in client._session._registry.jobs() for sent in job.pending.values()]


def test_what_a_worker_took_and_never_held(
    redis_url: str, redis: Redis, client: BertClient
) -> None:
    future = send(redis, client, TEXTS, 4)
    lost = [redis.rpop("bertq") for _ in range(2)]  # as a worker does that is then killed
    with stub_worker(redis_url) as stub:
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))
        assert len(stub.chunks) == 4
    assert len(set(lost)) == 2
    assert not redis.exists("bertq", "unacked", "unacked_index")


def test_one_that_is_lost_under_a_backlog(redis_url: str, redis: Redis, client: BertClient) -> None:
    future = send(redis, client, TEXTS, 4)
    oldest = json.loads(redis.rpop("bertq"))["headers"]["id"]  # type: ignore[arg-type]
    with stub_worker(redis_url) as stub:
        eventually(lambda: len(stub.chunks) == 3)
        stub.gate.clear()
        # A backlog, which never ends: chunks of others come in all the time.
        eventually(lambda: sent_times(client) == [1])
        others = [client.encode_async(TEXTS[:20]) for _ in range(3)]
        eventually(lambda: redis.llen("bertq") >= 2)
        eventually(lambda: sorted(sent_times(client)) == [1, 1, 1, 2])
        eventually(lambda: oldest.encode() in (redis.lindex("bertq", 0) or b""))
        stub.gate.set()
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))
        for other in others:
            np.testing.assert_array_equal(other.result(30), rows(TEXTS[:20]))


def test_a_backlog_and_a_long_chunk_are_left_alone(
    redis_url: str, redis: Redis, client: BertClient
) -> None:
    with stub_worker(redis_url) as stub:
        stub.gate.clear()
        future = client.encode_async(TEXTS)
        eventually(lambda: redis.hlen("unacked") and redis.llen("bertq"))
        looked = client._session._gatherer._recovery._looked  # type: ignore[union-attr]
        time.sleep(2)
        assert client._session._gatherer._recovery._looked > looked + 1  # type: ignore[union-attr]
        assert sent_times(client) == [1] * 4
        stub.gate.set()
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))
        assert len(stub.chunks) == 4


def test_without_a_worker_nothing_is_sent_again(redis: Redis, client: BertClient) -> None:
    send(redis, client, TEXTS, 4)
    time.sleep(1.5)
    assert redis.llen("bertq") == 4
    assert sent_times(client) == [1] * 4


def test_a_redis_that_has_lost_its_data(redis_url: str, redis: Redis, client: BertClient) -> None:
    future = send(redis, client, TEXTS, 4)
    small = client.encode_async(["small"])
    eventually(lambda: redis.llen("bertq.small"))
    epoch = redis.get(keys.EPOCH)
    assert redis.ttl(keys.EPOCH) == -1
    redis.flushdb()
    eventually(lambda: redis.llen("bertq") == 4 and redis.llen("bertq.small") == 1)
    assert redis.get(keys.EPOCH) not in (None, epoch)
    with stub_worker(redis_url) as stub:
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))
        np.testing.assert_array_equal(small.result(30), rows(["small"]))
        assert len(stub.chunks) == 5


def test_one_that_came_back_without_the_last_second(
    redis_url: str, redis: Redis, client: BertClient
) -> None:
    # The epoch is there: only that the chunks are nowhere tells.
    future = send(redis, client, TEXTS, 4)
    (record,) = redis.scan_iter("bertq:job:*")
    redis.delete("bertq", record)
    with stub_worker(redis_url):
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))


def test_a_record_that_is_gone(
    redis_url: str, redis: Redis, client: BertClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = send(redis, client, TEXTS, 4)
    (record,) = redis.scan_iter("bertq:job:*")
    redis.delete(record)  # as after ten minutes of a laptop that sleeps
    monkeypatch.setattr(recovery, "_RENEW_EVERY", 0.1)
    eventually(lambda: redis.exists(record))
    monkeypatch.setattr(recovery, "_RENEW_EVERY", 60)
    with stub_worker(redis_url):
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))


def test_a_result_that_is_gone(redis_url: str, redis: Redis, client: BertClient) -> None:
    future = send(redis, client, TEXTS[:100], 1)
    (record,) = redis.scan_iter("bertq:job:*")
    task_id = keys.task_id(record.decode().removeprefix("bertq:job:"), 0)
    redis.rpop("bertq")
    redis.xadd(keys.reply(client._session.client_id), {"task": task_id})
    eventually(lambda: redis.llen("bertq") == 1)
    with stub_worker(redis_url):
        np.testing.assert_array_equal(future.result(30), rows(TEXTS[:100]))


def test_what_is_lost_each_time_is_an_error(
    redis: Redis, client: BertClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_TIMES", 3)
    monkeypatch.setattr(recovery, "LOST_AFTER", 0.1)
    future = client.encode_async(TEXTS[:20])
    taken = 0
    while not future.done():
        taken += redis.rpop("bertq") is not None
        time.sleep(0.01)
    with pytest.raises(LostResult, match=r"chunk \w+-0 was sent 3 times and lost each time"):
        future.result(0)
    assert taken == 3


def test_computed_twice_changes_nothing(redis_url: str, redis: Redis, client: BertClient) -> None:
    future = send(redis, client, TEXTS, 4)
    for message in redis.lrange("bertq", 0, -1):
        redis.lpush("bertq", message)
    with stub_worker(redis_url) as stub:
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))
        eventually(lambda: len(stub.chunks) + len(stub.dropped) == 8)
        assert_usable(client, stub)
    eventually(lambda: not redis.exists("unacked", "unacked_index"))


def assert_usable(client: BertClient, stub: Stub) -> None:
    np.testing.assert_array_equal(client.encode(["after"]), rows(["after"]))
    assert client._session._registry.pending("bertq") == 0
    assert stub.asked
