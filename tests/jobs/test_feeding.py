"""The chunks of a durable job are queued, and queued again when lost, without any client."""

import time
from collections.abc import Callable

import pytest
from redis import Redis

from bertq import BertClient, DurableJob
from bertq.protocol import keys, time_to_live
from bertq.state import durable_jobs
from bertq.state.lost_chunks import LOST_AFTER_SECONDS
from bertq_workers.background.durable_job_monitor import DurableJobMonitor

LARGE = durable_jobs.MAX_QUEUED_CHUNKS + 20


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the monitor's clock forward."""
    real, ahead = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])

    def forward(seconds: float) -> None:
        ahead[0] += seconds

    return forward


def submit(client: BertClient, chunks: int) -> DurableJob:
    """Submit a job of ``chunks`` chunks."""
    job = client.submit([f"number {number}" for number in range(256 * chunks)])
    assert job.info.chunks == chunks
    return job


def pop_chunks(redis: Redis, count: int = 1, *, unacknowledged: bool = True) -> list[str]:
    """Take messages off the queue as a worker does; return their task ids."""
    taken = []
    for _ in range(count):
        message = redis.rpop("bertq")
        assert isinstance(message, bytes)
        task_id = message.split(b'"delivery_tag": "')[1].split(b'"')[0].decode()
        taken.append(task_id)
        if unacknowledged:
            redis.hset(keys.UNACKED, task_id, message)
    return taken


def answer(redis: Redis, task_id: str) -> None:
    """Answer a chunk as a worker does."""
    durable_jobs.finish(redis, task_id, b"rows", queue="bertq", failed=False)
    redis.hdel(keys.UNACKED, task_id)


def run_monitor(redis: Redis) -> DurableJobMonitor:
    """Create a monitor and let it check once."""
    made = DurableJobMonitor("")
    made.check(redis)
    return made


def test_an_answer_sends_the_next_chunk(redis: Redis, client: BertClient) -> None:
    job = submit(client, LARGE)
    assert redis.llen("bertq") == durable_jobs.MAX_QUEUED_CHUNKS
    answered = 0
    while job.status != "done":
        (task_id,) = pop_chunks(redis)
        assert task_id == keys.task_id(job.id, answered)
        answer(redis, task_id)
        answered += 1
        assert redis.llen("bertq") == min(durable_jobs.MAX_QUEUED_CHUNKS, LARGE - answered)
    assert answered == LARGE
    assert redis.llen("bertq") == 0


def test_a_job_behind_others_has_few_messages(redis: Redis, client: BertClient) -> None:
    redis.lpush("bertq", *[f"other {number}" for number in range(durable_jobs.MAX_QUEUED_CHUNKS)])
    job = submit(client, 30)
    assert redis.llen("bertq") == durable_jobs.MAX_QUEUED_CHUNKS + durable_jobs.MIN_SENT_CHUNKS
    for _ in range(durable_jobs.MAX_QUEUED_CHUNKS):
        redis.rpop("bertq")
    for task_id in pop_chunks(redis, durable_jobs.MIN_SENT_CHUNKS):
        answer(redis, task_id)
    assert redis.llen("bertq") == 30 - durable_jobs.MIN_SENT_CHUNKS
    assert job.info.done == durable_jobs.MIN_SENT_CHUNKS * 256


def test_a_second_answer_is_not_counted(redis: Redis, client: BertClient) -> None:
    job = submit(client, 3)
    (task_id,) = pop_chunks(redis)
    for _ in range(2):
        answer(redis, task_id)
    assert job.info.done == 256
    assert redis.xlen(keys.reply(job.id)) == 1
    durable_jobs.finish(redis, task_id, b"other rows", queue="bertq", failed=True)
    assert redis.get(keys.result(task_id)) == b"rows"
    assert job.info.failed == 0


def test_the_size_in_redis(redis: Redis, client: BertClient) -> None:
    job = submit(client, 2)
    texts = sum(map(len, redis.hvals(keys.messages(job.id))))
    plan = int(redis.hstrlen(keys.plan(job.id), "0"))
    assert job.info.bytes == texts + plan
    for task_id in pop_chunks(redis, 2):
        answer(redis, task_id)
    assert job.info.bytes == plan + 2 * len(b"rows")


def test_waiting_and_unacknowledged_chunks_are_not_sent_again(
    redis: Redis, client: BertClient, clock: Callable[[float], None]
) -> None:
    submit(client, 4)
    first, second = pop_chunks(redis, 2)
    made = run_monitor(redis)
    answer(redis, second)  # the first is passed by
    for _ in range(3):
        clock(100)
        made.check(redis)
    assert redis.llen("bertq") == 2
    assert redis.hexists(keys.UNACKED, first)


@pytest.mark.parametrize("idle", [True, False])
def test_lost_chunks_are_sent_again(
    redis: Redis, client: BertClient, clock: Callable[[float], None], idle: bool
) -> None:
    job = submit(client, 6)
    (lost,) = pop_chunks(redis, unacknowledged=False)
    made = run_monitor(redis)
    for task_id in pop_chunks(redis, 5 if idle else 1):
        answer(redis, task_id)
    made.check(redis)
    clock(LOST_AFTER_SECONDS - 1)
    made.check(redis)
    waiting = redis.llen("bertq")
    assert waiting == (0 if idle else 4)
    clock(2)
    made.check(redis)
    assert redis.llen("bertq") == waiting + 1
    # It waits now, behind the others: not to be sent a third time.
    if not idle:
        for task_id in pop_chunks(redis, 3):
            answer(redis, task_id)
        for _ in range(2):
            clock(100)
            made.check(redis)
        assert redis.llen("bertq") == 2
        answer(redis, pop_chunks(redis)[0])
    assert pop_chunks(redis) == [lost]
    answer(redis, lost)
    assert job.status == "done"


def test_it_can_be_lost_twice(
    redis: Redis, client: BertClient, clock: Callable[[float], None]
) -> None:
    submit(client, 2)
    pop_chunks(redis, 2, unacknowledged=False)
    made = run_monitor(redis)
    for times in (1, 2):
        clock(LOST_AFTER_SECONDS + 1)
        made.check(redis)
        assert len(pop_chunks(redis, 2, unacknowledged=False)) == 2
        made.check(redis)
        assert redis.llen("bertq") == 0, times


def test_a_stopped_job_is_continued(redis: Redis, client: BertClient) -> None:
    job = submit(client, LARGE)
    # As in a Redis that has forgotten the last second.
    redis.unlink("bertq")
    redis.hset(keys.job(job.id), "next", 0)
    run_monitor(redis)
    assert redis.llen("bertq") == durable_jobs.MAX_QUEUED_CHUNKS


def test_one_worker_monitors_the_jobs(
    redis: Redis, client: BertClient, clock: Callable[[float], None]
) -> None:
    submit(client, 2)
    pop_chunks(redis, 2, unacknowledged=False)
    first, second = run_monitor(redis), run_monitor(redis)
    assert 0 < int(redis.ttl(keys.MONITOR)) <= time_to_live.WORKER_SECONDS
    clock(LOST_AFTER_SECONDS + 1)
    second.check(redis)
    assert redis.llen("bertq") == 0
    first.check(redis)
    assert redis.llen("bertq") == 2


def test_finished_jobs_are_not_changed(redis: Redis, client: BertClient) -> None:
    jobs = [submit(client, 2) for _ in range(3)]
    jobs[0].cancel()
    jobs[1].discard()
    redis.unlink("bertq")
    redis.hset(keys.job(jobs[2].id), "next", 0)
    run_monitor(redis)
    assert redis.llen("bertq") == 2


def test_an_answered_chunk_is_not_sent_again(redis: Redis, client: BertClient) -> None:
    job = submit(client, 2)
    first, _ = pop_chunks(redis, 2)
    answer(redis, first)
    assert not durable_jobs.send_again(redis, job.id, "bertq", 0)
    assert durable_jobs.send_again(redis, job.id, "bertq", 1)
