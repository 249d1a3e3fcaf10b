"""Counting how often a chunk is begun, in the job's record."""

import pytest
from redis import Redis

from bertq.protocol import keys
from bertq.state import jobs
from tests import records


@pytest.fixture
def job(redis: Redis) -> str:
    records.write(redis, "j", rows=5, chunks=2)
    return "j"


def test_a_new_chunk_counts_once(redis: Redis, job: str) -> None:
    assert [jobs.count_delivery(redis, job, 1, "new").attempts for _ in range(3)] == [0, 1, 1]
    assert jobs.count_delivery(redis, job, 0, "").attempts == 0
    jobs.count_attempt(redis, job, 1)
    assert jobs.count_delivery(redis, job, 1, "").attempts == 2
    record = jobs.count_delivery(redis, job, 0, "")
    assert (record.is_active, record.chunks) == (True, 2)
    assert (record.attempts, record.redeliveries) == (0, 0)


def test_a_redelivered_chunk_is_counted_when_it_begins(redis: Redis, job: str) -> None:
    # The first redelivery counts the first attempt, which a small request does not count itself.
    records = [jobs.count_delivery(redis, job, 0, "again") for _ in range(3)]
    assert [record.attempts for record in records] == [1, 1, 1]
    assert [record.redeliveries for record in records] == [0, 1, 2]


def test_sending_again_keeps_the_attempts(redis: Redis, job: str) -> None:
    jobs.count_delivery(redis, job, 0, "new")
    jobs.pin(redis, job, "f")
    jobs.create(redis, job, client="c", queue="q", rows=5, chunks=2, message="m")
    assert redis.llen("q") == 1
    record = jobs.count_delivery(redis, job, 0, "")
    assert (record.attempts, record.fingerprint) == (1, "f")


def test_cancelling_does_not_recreate_an_expired_job(redis: Redis) -> None:
    assert not jobs.count_delivery(redis, "j", 0, "new").is_active
    assert not jobs.count_delivery(redis, "j", 0, "again").is_active
    jobs.count_attempt(redis, "j", 0)
    assert not redis.exists(keys.job("j"))


def test_a_cancelled_job_counts_nothing(redis: Redis, job: str) -> None:
    jobs.cancel(redis, job)
    assert not jobs.count_delivery(redis, job, 0, "new").is_active
    assert jobs.count_delivery(redis, job, 0, "").attempts == 0


def test_errors_of_refused_writes_are_recognized(redis: Redis, job: str) -> None:
    redis.hset(keys.job(job), keys.attempts(0), "no number")
    assert jobs.count_delivery(redis, job, 0, "").attempts == 0
    # A hash that cannot be counted stands for a server that refuses to write.
    redis.hset(keys.job(job), keys.redeliveries(0), "no number")
    record = jobs.count_delivery(redis, job, 0, "again")
    assert (record.is_active, record.attempts) == (True, 0)
