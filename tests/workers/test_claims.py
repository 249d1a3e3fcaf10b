"""One model a queue: workers as processes, on a real server."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import ModelMismatch, RedisUnavailable
from bertq.protocol import keys
from bertq.state import claims, worker_info
from bertq_workers.startup import admission
from tests.client.stub import info
from tests.conftest import WorkerProcess
from tests.waiting import eventually
from tests.workers.standins import QuickWorker, StandInWorker

#: Options of workers with two different models.
ONE = ("-Q", "cpu0")
OTHER = ("-Q", "cpu1", "--dim", "8")

#: Starts a stand-in worker without waiting until it is ready.
Begin = Callable[..., StandInWorker]


@pytest.fixture
def begin(redis_url: str, tmp_path: Path) -> Iterator[Begin]:
    workers: list[StandInWorker] = []

    def begin(*options: str, batch_ms: float = 1.0) -> StandInWorker:
        log = tmp_path / f"worker-{len(workers)}.log"
        workers.append(QuickWorker(redis_url, log, batch_ms, *options))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.kill()


def refusal(worker: WorkerProcess, within: float = 60) -> str:
    """The one line with which a worker refused to start."""
    assert worker.process.wait(within) == os.EX_UNAVAILABLE, worker.log
    assert "Traceback" not in worker.log
    lines = [line for line in worker.log.splitlines() if "this worker cannot start" in line]
    assert len(lines) == 1, worker.log
    return lines[0]


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as connection:
        yield connection


def test_a_worker_with_another_model_is_refused(redis_url: str, redis: Redis, begin: Begin) -> None:
    first = begin(*ONE).wait_ready()
    # A worker with the same model starts; so does another model without the shared queues.
    same = begin("-Q", "cpu2")
    other = begin(*OTHER)
    apart = begin("-X", "bertq,bertq.small", *OTHER)
    line = refusal(other)
    assert re.search(
        r"queue bertq is claimed by model clock \(REDUCE_MEAN.*, clock-4\) of cpu0@.*, "
        r"and this worker has clock \(.*, clock-8\)",
        line,
    ), line
    same.wait_ready()
    apart.wait_ready()
    assert first.process.poll() is None
    assert first.stop() == 0
    assert claims.take(redis, "bertq", "other") != "other"  # the second one needs it still
    assert same.stop() == 0
    eventually(lambda: claims.take(redis, "bertq", "other") == "other", 15)


def test_the_claim_of_a_dead_worker_expires(redis_url: str, redis: Redis, begin: Begin) -> None:
    begin(*ONE).wait_ready().kill()
    claimed = keys.claim("bertq"), keys.claim("bertq.small")
    for name in claimed:
        assert redis.expire(name, 60)  # a worker needs time to start
    second = begin(*OTHER)
    second.wait_for_log("queue bertq is claimed for another model", timeout=60)
    for name in claimed:
        assert redis.expire(name, 1)
    second.wait_ready()
    (running,) = (worker for worker in worker_info.read(redis) if worker.fingerprint == "clock-8")
    assert claims.take(redis, "bertq", running.fingerprint) == running.fingerprint
    assert claims.take(redis, "bertq.small", "other") == running.fingerprint


def test_a_worker_ends_when_another_model_claims_its_queue(
    redis_url: str, redis: Redis, begin: Begin
) -> None:
    worker = begin(*ONE).wait_ready()
    redis.set(keys.claim("bertq.small"), "another model")
    assert worker.process.wait(30) == os.EX_UNAVAILABLE
    assert "this worker ends: queue bertq.small is now claimed by another model" in worker.log
    assert "Traceback" not in worker.log
    assert worker_info.read(redis) == []


def test_a_request_begins_again_if_its_model_is_replaced(
    redis_url: str, redis: Redis, begin: Begin
) -> None:
    texts = [f"the lord and the law {number}" for number in range(20_000)]
    first = begin(*ONE, batch_ms=100).wait_ready()
    with BertClient(redis_url=redis_url, timeout=90) as client:
        future = client.encode_async(texts)
        first.wait_for_log(" rows, ", count=3)
        assert first.stop() == 0
        assert not future.done()
        second = begin(*OTHER).wait_ready()
        # The rest of it is refused by the other model, and the client sends all of it again.
        vectors = future.result(60)
        assert vectors.shape == (20_000, 8)
        np.testing.assert_array_equal(client.encode(texts[:300]), vectors[:300])
        second.wait_for_log("failed, ModelMismatch: the request was begun by a worker with model")
    assert "Traceback" not in second.log
    eventually(lambda: not list(redis.scan_iter("celery-task-meta-*")))


def test_a_claim_that_never_ends_is_not_waited_for(redis_url: str, redis: Redis) -> None:
    redis.set(keys.claim("bertq"), "another model")
    with pytest.raises(ModelMismatch, match=r"claimed by another model \(another mode\)"):
        admission.admit(redis, redis_url, info(["bertq"]), claim_seconds=1.0)


def test_a_worker_waits_for_redis_for_a_limited_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Celery workers of other tests in this process have set levels of their own.
    caplog.set_level(logging.WARNING, "bertq.worker")
    url = "redis://127.0.0.1:1/0"
    for queues in (["bertq"], ["cpu0"]):
        with (
            Redis.from_url(url) as redis,
            pytest.raises(RedisUnavailable, match=r"127\.0\.0\.1:1/0 cannot be reached"),
        ):
            admission.admit(redis, url, info(queues), retry_seconds=1.0)
    assert caplog.text.count("trying again") == 2


def test_a_refused_login_is_not_waited_for(redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis://nobody:secret@")
    with (
        Redis.from_url(url) as redis,
        pytest.raises(RedisUnavailable, match="refuses the login") as caught,
    ):
        admission.admit(redis, url, info(["bertq"]))
    assert "secret" not in str(caught.value)
