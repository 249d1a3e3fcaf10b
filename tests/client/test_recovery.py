"""Chunks that are lost on the way are sent again; those that wait, or are computed, are not."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import LostResult
from bertq.protocol import keys, wire
from bertq.protocol.wire import ChunkResult
from bertq.state import results
from bertq_cli.service.embedded_redis import free_port
from bertq_client.context import ClientTimings
from bertq_client.futures import EncodeFuture
from tests.client.stub import Stub, rows, stub_worker
from tests.conftest import StartServer
from tests.waiting import eventually

TEXTS = [f"{number} {'x' * (number % 60)}" for number in range(256 * 4)]


#: Short times, so that chunks are lost soon.
TIMINGS = ClientTimings(
    search_interval_seconds=0.05, lost_after_seconds=0.5, worker_info_seconds=0.1
)


@pytest.fixture
def client(redis_url: str) -> Iterator[BertClient]:
    with BertClient(redis_url=redis_url, timeout=30, _timings=TIMINGS) as made:
        yield made


def send(redis: Redis, client: BertClient, texts: list[str], chunks: int) -> EncodeFuture:
    future = client.encode_async(texts)
    eventually(lambda: redis.llen("bertq") == chunks)
    return future


def sent_times(client: BertClient) -> list[int]:
    jobs = client._session.context.registry.jobs()
    return [sending.count for job in jobs for sending in job.pending.values()]


def test_a_chunk_that_a_worker_popped_and_did_not_note(
    redis_url: str, redis: Redis, client: BertClient
) -> None:
    future = send(redis, client, TEXTS, 4)
    lost = [redis.rpop("bertq") for _ in range(2)]  # as a worker does that is then killed
    with stub_worker(redis_url) as stub:
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))
        assert len(stub.chunks) == 4
    assert len(set(lost)) == 2
    assert not redis.exists("bertq", "unacked", "unacked_index")


def test_a_lost_chunk_before_waiting_ones(redis_url: str, redis: Redis, client: BertClient) -> None:
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


def test_waiting_and_long_chunks_are_not_sent_again(
    redis_url: str, redis: Redis, client: BertClient
) -> None:
    with stub_worker(redis_url) as stub:
        stub.gate.clear()
        future = client.encode_async(TEXTS)
        eventually(lambda: redis.hlen("unacked") and redis.llen("bertq"))
        time.sleep(2)
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


def test_a_redis_that_lost_its_last_second(
    redis_url: str, redis: Redis, client: BertClient
) -> None:
    # The epoch is unchanged, so only the missing chunks show the loss.
    future = send(redis, client, TEXTS, 4)
    (record,) = redis.scan_iter("bertq:job:*")
    redis.delete("bertq", record)
    with stub_worker(redis_url):
        np.testing.assert_array_equal(future.result(30), rows(TEXTS))


def test_another_primary_lacks_a_chunk_before_waiting_ones(start_own_server: StartServer) -> None:
    port = start_own_server().port
    url = f"redis://127.0.0.1:{port}/0"
    with (
        Redis(port=port) as redis,
        BertClient(redis_url=url, timeout=30, _timings=TIMINGS) as client,
    ):
        future = send(redis, client, TEXTS, 4)
        redis.rpop("bertq")
        # As a promotion does, this changes the replication id.
        redis.replicaof("127.0.0.1", free_port())
        redis.replicaof("NO", "ONE")
        redis.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda: sorted(sent_times(client)) == [1, 1, 1, 2])
        assert redis.llen("bertq") == 4
        with stub_worker(url):
            np.testing.assert_array_equal(future.result(30), rows(TEXTS))


def test_an_expired_job(redis_url: str, redis: Redis) -> None:
    timings = replace(TIMINGS, renewal_interval_seconds=0.1)
    with BertClient(redis_url=redis_url, timeout=30, _timings=timings) as client:
        future = send(redis, client, TEXTS, 4)
        (record,) = redis.scan_iter("bertq:job:*")
        redis.delete(record)  # as after ten minutes of a laptop that sleeps
        eventually(lambda: redis.exists(record))
        with stub_worker(redis_url):
            np.testing.assert_array_equal(future.result(30), rows(TEXTS))


def test_a_result_that_is_gone(redis_url: str, redis: Redis, client: BertClient) -> None:
    future = send(redis, client, TEXTS[:100], 1)
    (record,) = redis.scan_iter("bertq:job:*")
    task_id = keys.task_id(record.decode().removeprefix("bertq:job:"), 0)
    redis.rpop("bertq")
    redis.xadd(keys.reply(client._session.context.client_id), {"task": task_id})
    eventually(lambda: redis.llen("bertq") == 1)
    with stub_worker(redis_url):
        np.testing.assert_array_equal(future.result(30), rows(TEXTS[:100]))


@pytest.mark.parametrize("once", [True, False])
def test_a_small_result_with_and_without_a_key(
    redis: Redis, client: BertClient, once: bool
) -> None:
    future = client.encode_async(["a"])
    eventually(lambda: redis.llen("bertq.small"))
    message = json.loads(redis.rpop("bertq.small") or "")  # type: ignore[arg-type]
    assert message["headers"]["notice"] is True
    task_id, stream = message["headers"]["id"], message["properties"]["reply_to"]
    answer = {"status": "SUCCESS", "result": ChunkResult(rows(["a"]), "f").to_wire()}
    results.store(
        redis, task_id, wire.dumps(answer), reply_to=stream, queue=None, failed=False, once=once
    )
    np.testing.assert_array_equal(future.result(20), rows(["a"]))
    eventually(lambda: not redis.exists(keys.result(task_id), keys.job(task_id[:-2])))
    eventually(lambda: redis.xlen(keys.reply(stream)) == 0)


def test_a_chunk_that_is_lost_each_time_is_an_error(redis_url: str, redis: Redis) -> None:
    timings = replace(TIMINGS, lost_after_seconds=0.1)
    with BertClient(redis_url=redis_url, timeout=30, _timings=timings) as client:
        future = client.encode_async(TEXTS[:20])
        taken = 0
        while not future.done():
            taken += redis.rpop("bertq") is not None
            time.sleep(0.01)
        with pytest.raises(LostResult, match=r"chunk \w+-0 was sent 10 times and lost each time"):
            future.result(0)
        assert taken == 10


def test_a_second_answer_changes_nothing(redis_url: str, redis: Redis, client: BertClient) -> None:
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
    assert client._session.context.registry.pending_chunks("bertq") == 0
    assert stub.asked
