"""Readers of a durable job while Redis loses its latest data, as after a crash."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient, DurableJob
from bertq.errors import LostResult
from bertq.protocol import keys, wire
from bertq.protocol.wire import ChunkResult
from bertq.state import durable_jobs
from bertq_client.inbox import reply_stream
from tests.client.stub import rows
from tests.waiting import eventually

TEXTS = [f"number {number}" for number in range(256 * 5)]


def answer(redis: Redis, job: DurableJob, *chunks: int) -> None:
    """Answer chunks as a worker does."""
    for chunk in chunks:
        task_id = keys.task_id(job.id, chunk)
        message: Any = redis.hget(keys.messages(job.id), str(chunk))
        texts = texts_of(message)
        result = {"status": "SUCCESS", "result": ChunkResult(rows(texts), "f").to_wire()}
        durable_jobs.finish(redis, task_id, wire.dumps(result), queue="bertq", failed=False)


def texts_of(message: bytes) -> list[str]:
    """The sentences in a message."""
    body = json.loads(base64.b64decode(json.loads(message)["body"]))
    texts: list[str] = body[0][0]
    return texts


def save(redis: Redis) -> dict[Any, Any]:
    """The contents of all keys."""
    names: Any = redis.keys()
    return {name: redis.dump(name) for name in names}


def restore(redis: Redis, saved: dict[Any, Any]) -> None:
    """Replace all keys, as a restart with older data does."""
    with redis.pipeline() as pipe:
        pipe.flushdb()
        for name, data in saved.items():
            pipe.restore(name, 600_000, data)
        pipe.execute()


def test_each_chunk_is_returned_once(redis: Redis, client: BertClient) -> None:
    job = client.submit(TEXTS)
    answer(redis, job, 0)
    saved = save(redis)
    answer(redis, job, 1, 2)
    batches = job.batches(20)
    found = [next(batches) for _ in range(3)]
    restore(redis, saved)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(list, batches)
        answer(redis, job, 2, 4, 1, 3)
        found += reading.result(20)
    numbers = [number for batch in found for number in batch.numbers]
    assert sorted(numbers) == list(range(len(TEXTS)))
    for batch in found:
        np.testing.assert_array_equal(batch.vectors, rows([TEXTS[n] for n in batch.numbers]))


def test_the_whole_result(redis: Redis, client: BertClient) -> None:
    job = client.submit(TEXTS)
    answer(redis, job, 0)
    saved = save(redis)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(job.result, 20)
        answer(redis, job, 1, 2)
        eventually(lambda: is_read(redis, job))
        restore(redis, saved)
        answer(redis, job, 1, 2, 3, 4)
        np.testing.assert_array_equal(reading.result(20), rows(TEXTS))


def test_other_notices_with_earlier_ids(redis: Redis, client: BertClient) -> None:
    """As after a failover to a replica whose clock is behind."""
    job = client.submit(TEXTS)
    saved = save(redis)
    answer(redis, job, 0, 1, 2)
    batches = job.batches(20)
    found = [next(batches) for _ in range(3)]
    restore(redis, saved)
    answer(redis, job, 3, 0, 4, 1, 2)
    entries: Any = redis.xrange(keys.reply(job.id))
    redis.delete(keys.reply(job.id))
    for number, (_, fields) in enumerate(entries, 1):
        redis.xadd(keys.reply(job.id), fields, f"{number}-1")
    found += list(batches)
    assert sorted(n for batch in found for n in batch.numbers) == list(range(len(TEXTS)))


def test_a_result_that_is_lost_after_its_notice_was_read(
    redis: Redis, client: BertClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.submit(TEXTS)
    saved = save(redis)
    answer(redis, job, 0, 1)
    real, is_first = reply_stream.fetch, True

    def fetch(*arguments: Any) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            restore(redis, saved)
        return real(*arguments)

    monkeypatch.setattr(reply_stream, "fetch", fetch)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(job.result, 20)
        eventually(lambda: not is_first)
        answer(redis, job, *range(5))
        np.testing.assert_array_equal(reading.result(20), rows(TEXTS))


def test_notices_that_do_not_come_back_are_an_error(redis: Redis, client: BertClient) -> None:
    job = client.submit(TEXTS)
    answer(redis, job, *range(5))
    entries: Any = redis.xrange(keys.reply(job.id))
    redis.xdel(keys.reply(job.id), entries[2][0])
    with pytest.raises(LostResult, match="lost 1 notices of job"):
        job.result(20)


def is_read(redis: Redis, job: DurableJob) -> bool:
    """Whether a reader waits for the notice after the third one."""
    entries: Any = redis.xrange(keys.reply(job.id))
    return len(entries) == 3 and any("xread" in client["cmd"] for client in redis.client_list())
