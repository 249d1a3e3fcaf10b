"""Counting how often a chunk is begun, in the job's record."""

import pytest
from redis import Redis

from bertq.protocol import keys
from bertq.state import claims, jobs
from tests import records


@pytest.fixture
def job(redis: Redis) -> str:
    records.write(redis, "j", rows=5, chunks=2)
    return "j"


def deliver(redis: Redis, job: str, chunk: int, delivery: str, model: str = "f") -> jobs.JobRecord:
    return jobs.count_delivery(redis, job, chunk, delivery, queue="bertq", fingerprint=model)


def test_a_new_chunk_counts_once(redis: Redis, job: str) -> None:
    assert [deliver(redis, job, 1, "new").attempts for _ in range(3)] == [0, 1, 1]
    assert deliver(redis, job, 0, "").attempts == 0
    jobs.count_attempt(redis, job, 1)
    assert deliver(redis, job, 1, "").attempts == 2
    record = deliver(redis, job, 0, "")
    assert (record.is_active, record.chunks) == (True, 2)
    assert (record.attempts, record.redeliveries) == (0, 0)


@pytest.mark.parametrize(
    ("delivery", "attempts"),
    [
        ("again", [0, 1, 1]),  # it was returned before it was begun
        ("uncounted", [1, 1, 1]),  # perhaps it was begun in a group, which counts no attempt
    ],
)
def test_a_redelivered_chunk_counts_once(
    redis: Redis, job: str, delivery: str, attempts: list[int]
) -> None:
    records = [deliver(redis, job, 0, delivery) for _ in range(3)]
    assert [record.attempts for record in records] == attempts
    assert [record.redeliveries for record in records] == [0, 1, 2]


def test_attempts_are_forgotten(redis: Redis, job: str) -> None:
    for number in (0, 1):
        deliver(redis, job, number, "new")
    jobs.forget_attempts(redis, job, 1)
    assert [deliver(redis, job, number, "").attempts for number in (0, 1)] == [1, 0]
    jobs.forget_attempts(redis, "gone", 0)
    assert not redis.exists(keys.job("gone"))


def test_sending_again_keeps_the_attempts(redis: Redis, job: str) -> None:
    deliver(redis, job, 0, "new")
    jobs.pin(redis, job, "q", "f")
    jobs.create(redis, job, client="c", queue="q", rows=5, chunks=2, message="m")
    assert redis.llen("q") == 1
    record = deliver(redis, job, 0, "")
    assert (record.attempts, record.fingerprint) == (1, "f")


def test_cancelling_does_not_recreate_an_expired_job(redis: Redis) -> None:
    assert not deliver(redis, "j", 0, "new").is_active
    assert not deliver(redis, "j", 0, "again").is_active
    jobs.count_attempt(redis, "j", 0)
    assert not redis.exists(keys.job("j"))


def test_a_cancelled_job_counts_nothing(redis: Redis, job: str) -> None:
    jobs.cancel(redis, job)
    assert not deliver(redis, job, 0, "new").is_active
    assert deliver(redis, job, 0, "").attempts == 0


def test_errors_of_refused_writes_are_recognized(redis: Redis, job: str) -> None:
    redis.hset(keys.job(job), keys.attempts(0), "no number")
    assert deliver(redis, job, 0, "").attempts == 0
    # A hash that cannot be counted stands for a server that refuses to write.
    redis.hset(keys.job(job), keys.redeliveries(0), "no number")
    record = deliver(redis, job, 0, "again")
    assert (record.is_active, record.attempts) == (True, 0)


def test_nothing_is_counted_if_another_model_must_answer(redis: Redis, job: str) -> None:
    claims.switch(redis, ["bertq"], "new", [], 1)
    for delivery in ("new", "again"):
        record = deliver(redis, job, 0, delivery)
        assert (record.fingerprint, record.attempts, record.redeliveries) == ("new", 0, 0)
    assert deliver(redis, job, 0, "new", "new").fingerprint is None
    jobs.pin(redis, job, "bertq", "new")
    deliver(redis, job, 0, "again")
    record = deliver(redis, job, 0, "", "new")
    assert (record.fingerprint, record.attempts, record.redeliveries) == ("new", 1, 0)
    # A job of one chunk cannot be mixed: any worker may answer it.
    records.write(redis, "one", rows=5, chunks=1)
    assert deliver(redis, "one", 0, "new").fingerprint is None
    assert jobs.pin(redis, "one", "bertq", "f") == "f"
