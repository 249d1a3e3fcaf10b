"""Queues expire after their last use, and not before."""

from typing import Any

import pytest
from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.state import counters, durable_jobs, jobs, queue_expiry, worker_info
from tests import records
from tests.client.stub import info

DAY, LONG = time_to_live.QUEUE_SECONDS, 30 * 24 * 3600


def ttl(redis: Redis, name: str = "bertq") -> int:
    seconds: Any = redis.ttl(name)
    return int(seconds)


def commit(redis: Redis, job_id: str, seconds: int, chunks: int = 100) -> durable_jobs.JobInfo:
    messages = {chunk: f"{job_id} {chunk}" for chunk in range(chunks)}
    durable_jobs.write_messages(redis, job_id, messages, first=True)
    assert durable_jobs.commit(
        redis, job_id, client="me", queue="bertq", rows=chunks, places=[1] * chunks, plan=b"plan",
        size=9, options="{}", ttl=seconds,
    )  # fmt: skip
    return durable_jobs.read(redis, [job_id])[0]


def create(redis: Redis, job_id: str = "j") -> int:
    return jobs.create(redis, job_id, client="me", queue="bertq", rows=1, chunks=1, message="first")


def test_each_push_of_a_client_sets_the_time_to_live(redis: Redis) -> None:
    assert create(redis) == 1
    assert DAY - 5 < ttl(redis) <= DAY
    redis.expire("bertq", 100)
    assert jobs.push(redis, "bertq", "second") == 2
    assert DAY - 5 < ttl(redis) <= DAY
    assert redis.lrange("bertq", 0, -1) == [b"second", b"first"]


def test_a_push_never_shortens_the_life_of_a_queue(redis: Redis) -> None:
    commit(redis, "long", LONG)
    assert ttl(redis) > LONG - 5
    create(redis)
    commit(redis, "short", 60)
    queue_expiry.extend_served(redis, ["bertq"])
    assert ttl(redis) > LONG - 5


def test_a_queue_outlives_the_durable_jobs_on_it(redis: Redis) -> None:
    commit(redis, "short", 60)
    assert ttl(redis) > DAY - 5
    found = commit(redis, "long", LONG)
    redis.delete("bertq")
    durable_jobs.finish(redis, keys.task_id("long", 0), b"rows", queue="bertq", failed=False)
    assert ttl(redis) > LONG - 5  # the next chunk
    redis.delete("bertq")
    assert durable_jobs.send_again(redis, "long", "bertq", 1)
    assert ttl(redis) > LONG - 5
    assert durable_jobs.renew(redis, found, 2 * LONG)
    assert ttl(redis) > 2 * LONG - 5
    assert durable_jobs.renew(redis, found, 60)
    assert ttl(redis) > 2 * LONG - 5


def test_a_client_extends_the_queues_of_its_jobs(redis: Redis) -> None:
    create(redis)
    redis.expire("bertq", 100)
    assert jobs.renew(redis, ["j", "other"], ["bertq", "gpu7"]) == ["other"]
    assert ttl(redis) > DAY - 5


def test_a_worker_extends_its_queues_and_its_chunks(redis: Redis) -> None:
    redis.lpush("gpu0", "x")
    redis.hset(keys.UNACKED, "tag", "message")
    redis.zadd(keys.UNACKED_INDEX, {"tag": 1})
    queue_expiry.extend_served(redis, ["gpu0", "bertq"])
    for name in ("gpu0", keys.UNACKED, keys.UNACKED_INDEX):
        assert DAY - 5 < ttl(redis, name) <= DAY
    assert not redis.exists("bertq")


def test_only_the_given_messages_are_withdrawn(redis: Redis) -> None:
    for message in ("a", "b", "c", "a"):
        jobs.push(redis, "bertq", message)
    assert jobs.withdraw(redis, "bertq", ["a", "c", "z"]) == 3
    assert redis.lrange("bertq", 0, -1) == [b"b"]


@pytest.mark.parametrize("end", [durable_jobs.cancel, durable_jobs.discard])
def test_an_ended_job_leaves_no_message(redis: Redis, end: Any) -> None:
    first, second = commit(redis, "first", 60), commit(redis, "second", 60)
    for chunk in (0, 3):
        redis.lrem("bertq", 0, f"first {chunk}")
        durable_jobs.finish(redis, keys.task_id("first", chunk), b"x", queue="bertq", failed=False)
    end(redis, first)
    waiting: Any = redis.lrange("bertq", 0, -1)
    assert {message.split()[0] for message in waiting} == {b"second"}
    assert len(waiting) == 4  # MIN_SENT_CHUNKS, as "first" had filled the queue
    end(redis, second)
    assert redis.llen("bertq") == 0


def test_a_large_job_is_renewed_and_removed(redis: Redis) -> None:
    found = commit(redis, "j", 60, chunks=2500)
    for chunk in range(2500):
        redis.set(keys.result(keys.task_id("j", chunk)), "rows", ex=60)
    assert durable_jobs.renew(redis, found, 1000)
    assert all(ttl(redis, keys.result(keys.task_id("j", n))) > 990 for n in (0, 999, 1000, 2499))
    durable_jobs.discard(redis, found)
    assert not redis.keys("*j-*")
    assert not durable_jobs.renew(redis, found, 1000)


def test_the_list_of_queues_is_bounded(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_MAX_QUEUES", 3)
    for number in range(5):
        redis.zadd(keys.QUEUES, {f"old{number}": number})
    records.count(redis, "me", "gpu0", 1)
    assert redis.zrange(keys.QUEUES, 0, -1) == [b"old3", b"old4", b"gpu0"]


def test_the_list_of_workers_is_bounded(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_info, "_MAX_WORKERS", 3)
    for number in range(5):
        redis.zadd(keys.WORKERS, {f"killed{number}": number})
    worker_info.publish(redis, info(["bertq"]))
    assert redis.zrange(keys.WORKERS, 0, -1) == [b"killed3", b"killed4", b"stub@test"]
