"""The requests of one client take turns: none of them waits for another one's retries."""

import time
from typing import Any

import numpy as np
import pytest
from redis import ConnectionError, Redis
from redis.exceptions import OutOfMemoryError

from bertq import BertClient
from bertq.errors import RedisFull, RedisUnavailable
from bertq.state import jobs
from bertq_client.context import ClientTimings
from bertq_client.outbox import writer
from tests.client.stub import rows, stub_worker
from tests.waiting import eventually

LARGE = [f"{number} {'x' * (number % 60)}" for number in range(256 * 12)]


def test_new_work_wakes_the_sender(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CHECK_INTERVAL_SECONDS", 600.0)
    with BertClient(redis_url=redis_url, max_pending_chunks=2) as client:
        large = client.encode_async(LARGE)
        eventually(lambda: redis.llen("bertq") == 2)
        time.sleep(0.1)  # it waits for capacity
        client.encode_async(["small"])
        eventually(lambda: redis.llen("bertq.small") == 1)
        other = client.encode_async(LARGE[:20])
        large.cancel()
        other.cancel()
        eventually(lambda: redis.hget(*state_of_a_job(redis)) == jobs.CANCELLED)


def state_of_a_job(redis: Redis) -> tuple[str, str]:
    """Key and field of the state of the large request."""
    for name in redis.scan_iter("bertq:job:*"):
        if redis.hget(name, "rows") == b"%d" % len(LARGE):
            return name, "state"
    return "bertq:job:none", "state"


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, times: float) -> list[str]:
    """Let Redis refuse a command for jobs of seventeen sentences; return its attempts."""
    real, attempts = getattr(jobs, name), list[str]()

    def call(redis: Redis, job_id: str, **options: Any) -> Any:
        if options.get("rows", 17) == 17:
            attempts.append(job_id)
            if len(attempts) <= times:
                raise error
        return real(redis, job_id, **options)

    monkeypatch.setattr(jobs, name, call)
    return attempts


def test_retries_of_a_request_delay_no_other(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = refuse(monkeypatch, "create", OutOfMemoryError("maxmemory"), float("inf"))
    timings = ClientTimings(retry_seconds=600)
    with (
        BertClient(redis_url=redis_url, _timings=timings) as client,
        stub_worker(redis_url),
    ):
        refused = client.encode_async(LARGE[:17])
        while len(attempts) < 4:
            small = client.encode_async(["small"])
            np.testing.assert_array_equal(small.result(60), rows(["small"]))
        assert not refused.done()
        refused.cancel()


def test_a_request_that_redis_refuses_fails_although_others_succeed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "create", OutOfMemoryError("maxmemory"), float("inf"))
    timings = ClientTimings(retry_seconds=0.5)
    with (
        BertClient(redis_url=redis_url, timeout=60, _timings=timings) as client,
        stub_worker(redis_url),
    ):
        refused = client.encode_async(LARGE[:17])
        while not refused.done():
            client.encode(["small"])
        with pytest.raises(RedisFull):
            refused.result()


def test_a_cancelled_job_is_cancelled_in_redis_when_redis_is_back(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = refuse(monkeypatch, "cancel", ConnectionError("away"), 3)
    with BertClient(redis_url=redis_url) as client:
        future = client.encode_async(LARGE[:17])
        eventually(lambda: redis.llen("bertq") == 1)
        future.cancel()
        eventually(lambda: len(attempts) == 4)
        eventually(lambda: redis.hget(f"bertq:job:{attempts[0]}", "state") == jobs.CANCELLED)


def test_a_cancelled_job_whose_record_may_be_written(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = jobs.create, list[str]()

    def create(redis: Redis, job_id: str, **options: Any) -> int:
        real(redis, job_id, **options)
        answers.append(job_id)
        raise ConnectionError("the answer is lost")

    monkeypatch.setattr(jobs, "create", create)
    with BertClient(redis_url=redis_url) as client:
        future = client.encode_async(["a"])
        eventually(lambda: answers)
        future.cancel()
        eventually(lambda: redis.hget(f"bertq:job:{answers[0]}", "state") == jobs.CANCELLED)
        eventually(lambda: redis.llen("bertq.small") == 0)


def test_each_request_fails_in_time_if_redis_does_not_answer(silent_url: str) -> None:
    """One attempt takes five seconds, but not one for each request."""
    timings = ClientTimings(retry_seconds=0.5)
    with BertClient(redis_url=silent_url, _timings=timings) as client:
        began = time.monotonic()
        futures = [client.encode_async([f"{n}"] * 20) for n in range(30)]
        for future in futures:
            with pytest.raises(RedisUnavailable):
                future.result(30)
        # One after the other would take 150 s.
        assert time.monotonic() - began < 60
