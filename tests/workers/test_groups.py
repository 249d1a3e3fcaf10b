"""Chunks of small requests that arrive together: encoded as a group, answered one by one."""

import json
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from celery import signals
from kombu import pools
from numpy.typing import NDArray
from redis import Redis

from bertq.protocol import keys, queues
from bertq.protocol.versions import WIRE_VERSION
from bertq.state import jobs
from bertq_client.inbox.results import decode
from bertq_client.outbox.message import MessageBuilder
from bertq_workers.groups import GroupEncoder
from tests import records
from tests.apps import create_app
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import Start

#: The client that the chunks reply to.
CLIENT = "me"


def push(redis: Redis, chunks: dict[str, tuple[list[Any], dict[str, Any]]], **headers: Any) -> None:
    """Send chunks of small requests in one step, each with the record of its job."""
    builder = MessageBuilder(CLIENT)
    with redis.pipeline() as pipe:
        for job, (texts, options) in chunks.items():
            message = json.loads(builder.build(f"{job}-0", texts, queues.SMALL, options))
            message["headers"] |= headers
            pipe.hset(keys.job(job), mapping={"state": jobs.ACTIVE, "chunks": 1})
            pipe.lpush(queues.SMALL, json.dumps(message))
        pipe.execute()


def answers(redis: Redis, count: int) -> dict[str, dict[bytes, bytes]]:
    """Wait for notices, and return their fields by job."""
    eventually(lambda: redis.xlen(keys.reply(CLIENT)) >= count, 30)
    entries: Any = redis.xrange(keys.reply(CLIENT))
    assert len(entries) == count
    return {fields[b"task"].decode()[:-2]: fields for _, fields in entries}


def rows_of(fields: dict[bytes, bytes]) -> NDArray[Any]:
    """Return the rows in a notice."""
    rows: Any = decode(fields[b"result"], fields[b"task"].decode()).rows
    return np.asarray(rows)


def was_traced(redis: Redis, job: str) -> bool:
    """Return whether the chunk of a job ran alone, with Celery's trace, which counts it."""
    return bool(redis.hexists(keys.job(job), keys.attempts(0)))


def test_each_chunk_of_a_group_gets_its_own_rows(redis: Redis, start: Start) -> None:
    texts = {f"job{number}": standins.sentences(1 + number) for number in range(12)}
    push(redis, {job: (sentences, {}) for job, sentences in texts.items()})
    worker = start(1.0)
    found = answers(redis, 12)
    for job, sentences in texts.items():
        np.testing.assert_array_equal(rows_of(found[job]), standins.rows(sentences))
        assert not was_traced(redis, job)
        worker.wait_for_log(f"chunk {job}-0: {len(sentences)} rows")
    worker.wait_for(lambda: not redis.exists("unacked", "unacked_index"))
    assert 0 < redis.ttl(keys.reply(CLIENT)) <= 600


def test_a_group_begins_when_the_last_one_is_answered(redis: Redis, start: Start) -> None:
    start(128_000.0)  # half a second for each row
    push(redis, {"first": (["a"], {})})
    eventually(lambda: redis.hlen("unacked") == 1)
    push(redis, {f"job{number}": (["a"], {}) for number in range(3)})
    time.sleep(0.3)
    assert redis.hlen("unacked") == 1
    assert redis.llen(queues.SMALL) == 3
    assert next(iter(answers(redis, 4))) == "first"


@pytest.mark.parametrize("reconnects", [False, True])
def test_remote_control_stops_and_starts_small_chunks(
    redis: Redis, start: Start, *, reconnects: bool
) -> None:
    worker = start(1.0)
    sent = 0

    def push_another() -> bool:
        """Send a chunk, and return whether it stays in the queue."""
        nonlocal sent
        push(redis, {f"job{sent}": (["a"], {})})
        sent += 1
        time.sleep(0.3)
        return redis.llen(queues.SMALL) > 0

    with create_app(worker.url) as app:
        app.control.cancel_consumer(queues.SMALL, reply=True, timeout=1)
    # The worker may receive one more answer of Redis.
    eventually(push_another)
    if reconnects:  # without a channel for small chunks
        pools.reset()
        redis.client_kill_filter(_type="normal", skipme=True)
    with create_app(worker.url) as app:
        for _ in range(2):
            eventually(partial(app.control.add_consumer, queues.SMALL, reply=True, timeout=1))
        for _ in range(6):
            answers(redis, sent)
            push_another()
            answers(redis, sent)
            assert was_traced(redis, f"job{sent - 1}") == reconnects
    assert worker.stop() == 0


def _has_unacked(redis: Redis, count: int) -> bool:
    return redis.hlen("unacked") == count


def test_groups_gather_while_they_wait_for_the_device(redis: Redis, start: Start) -> None:
    start(5000.0)
    message = json.loads(MessageBuilder(CLIENT).build("big-0", ["a"] * 256, queues.SHARED))
    redis.hset(keys.job("big"), mapping={"state": jobs.ACTIVE, "chunks": 1})
    redis.lpush(queues.SHARED, json.dumps(message))
    eventually(lambda: redis.hexists(keys.job("big"), keys.attempts(0)))
    time.sleep(0.5)  # it is tokenized, and computed
    for number in range(3):
        push(redis, {f"job{number}": (["a"], {})})
        eventually(partial(_has_unacked, redis, 2 + number))
    assert not redis.exists(keys.reply(CLIENT))
    assert next(iter(answers(redis, 4))) == "big"


def test_a_result_has_a_key_unless_its_client_can_do_without(redis: Redis, start: Start) -> None:
    push(redis, {"old": (["a"], {})}, notice=None)
    push(redis, {"new": (["a b"], {})}, notice=1)
    start(1.0)
    found = answers(redis, 2)
    assert b"once" not in found["old"]
    assert redis.get(keys.result("old-0")) == found["old"][b"result"]
    assert 0 < redis.ttl(keys.result("old-0")) <= 600
    assert found["new"][b"once"] == b"1"
    assert not redis.exists(keys.result("new-0"))


def test_chunks_with_different_options(redis: Redis, start: Start) -> None:
    options: list[dict[str, Any]] = [
        {}, {"precision": "float16"}, {"dimensions": 2}, {"count_tokens": True},
        {"normalize": True}, {"precision": "float16"},
    ]  # fmt: skip
    push(redis, {f"job{n}": (["a b c"], choice) for n, choice in enumerate(options)})
    start(1.0)
    found = [answers(redis, 6)[f"job{n}"] for n in range(6)]
    shown = [(rows_of(fields).dtype.name, rows_of(fields).tolist()) for fields in found]
    whole = [[5.0, 0.0, 0.0, 0.0]]
    half = ("float16", whole)
    assert shown[:4] == [("float32", whole), half, ("float32", [[5.0, 0.0]]), ("float32", whole)]
    assert shown[4:] == [("float32", [[1.0, 0.0, 0.0, 0.0]]), half]
    assert decode(found[3][b"result"], "job3-0").lengths == [5]
    assert not any(was_traced(redis, f"job{n}") for n in range(6))


def test_a_chunk_that_fails_fails_alone(redis: Redis, start: Start) -> None:
    bad: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "empty": ([], {}), "number": ([5], {}), "option": (["a"], {"colour": "green"}),
        "dimensions": (["a"], {"dimensions": 99}),
    }  # fmt: skip
    good: dict[str, tuple[list[Any], dict[str, Any]]] = {
        f"good{n}": (standins.sentences(n + 1), {}) for n in range(4)
    }
    push(redis, {**bad, **good})
    worker = start(1.0)
    found = answers(redis, 8)
    for job, (sentences, _) in good.items():
        np.testing.assert_array_equal(rows_of(found[job]), standins.rows(sentences))
        assert not was_traced(redis, job)
    for job in bad:
        with pytest.raises(Exception, match=r"chunk|option|dimensions"):
            rows_of(found[job])
        worker.wait_for_log(f"chunk {job}-0: rejected")
    worker.wait_for(lambda: not redis.exists("unacked", "unacked_index"))


def test_chunks_of_jobs_that_are_over_are_dropped(redis: Redis, start: Start) -> None:
    push(redis, {job: (["a"], {}) for job in ("kept", "cancelled", "gone")})
    jobs.cancel(redis, "cancelled")
    redis.delete(keys.job("gone"))
    worker = start(1.0)
    for job in ("cancelled", "gone"):
        worker.wait_for_log(f"chunk {job}-0: dropped")
    assert set(answers(redis, 1)) == {"kept"}
    worker.wait_for(lambda: not redis.exists("unacked", "unacked_index"))


def test_suspicious_chunks_run_alone(redis: Redis, start: Start) -> None:
    push(redis, {job: (["a"], {}) for job in ("attempted", "returned", "pinned", "new")})
    redis.hset(keys.job("attempted"), keys.attempts(0), 1)
    redis.hset(keys.job("returned"), keys.redeliveries(0), 1)
    redis.hset(keys.job("pinned"), "fingerprint", "another")
    worker = start(1.0)
    found = answers(redis, 4)
    assert redis.hget(keys.job("attempted"), keys.attempts(0)) == b"2"
    assert was_traced(redis, "returned")
    assert not was_traced(redis, "new")
    with pytest.raises(Exception, match="begun by a worker with model another"):
        rows_of(found["pinned"])
    worker.wait_for_log("chunk pinned-0: failed, ModelMismatch")


def test_a_tag_of_another_chunk_is_not_believed(redis: Redis, start: Start) -> None:
    records.write(redis, "other")
    message = json.loads(MessageBuilder(CLIENT).build("mine-0", ["a"], queues.SMALL))
    message["properties"]["delivery_tag"] = "other-0"
    redis.lpush(queues.SMALL, json.dumps(message))
    worker = start(1.0)
    worker.wait_for_log("chunk mine-0: dropped")
    assert not redis.exists(keys.reply(CLIENT))


def test_no_chunk_is_grouped_while_something_listens_to_the_signals_of_the_trace() -> None:
    encoder: Any = SimpleNamespace(row_shape=(4,), fingerprint="f")
    unused: Any = None
    groups = GroupEncoder(encoder, unused, unused, unused, shows_tokens=True)
    record = jobs.JobRecord(is_active=True, chunks=1, fingerprint=None)
    request: Any = SimpleNamespace(
        id="job-0", delivery_info={}, message=SimpleNamespace(delivery_tag="job-0"),
        request_dict={"wire": WIRE_VERSION, "reply_to": CLIENT},
    )  # fmt: skip
    assert groups.accepts(request, record)

    def listen(**_: Any) -> None: ...

    for signal in (signals.task_prerun, signals.task_postrun, signals.task_success):
        signal.connect(listen)
        assert not groups.accepts(request, record)
        signal.disconnect(listen)
    assert groups.accepts(request, record)
