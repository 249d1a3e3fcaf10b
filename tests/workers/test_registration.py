"""The thread that renews a worker's registration."""

import dataclasses
import logging
import os
import time

import pytest
from celery.utils.nodenames import gethostname
from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.state import claims, worker_info
from bertq.state.worker_info import WorkerInfo, WorkerStats
from bertq_workers.background.registration import Registration
from bertq_workers.observability.meter import Meter
from tests.client.stub import info
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _audible(caplog: pytest.LogCaptureFixture) -> None:
    # Celery workers of other tests in this process have set levels of their own.
    caplog.set_level(logging.WARNING, "bertq.worker")


def start(
    url: str, info: WorkerInfo, ended: list[str] | None = None, interval_seconds: float = 0.3
) -> Registration:
    """Register a worker; the reasons for which it should end go to ``ended``."""
    end_worker = ([] if ended is None else ended).append
    registration = Registration(url, info, Meter(), end_worker, print, interval_seconds)
    registration.start()
    return registration


def test_the_worker_info_is_renewed_while_the_main_thread_is_busy(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_to_live, "WORKER_SECONDS", 1)
    mine = info(["bertq"])
    registration = start(redis_url, mine)
    eventually(lambda: redis.get(keys.claim("bertq")) == b"f")
    assert worker_info.read(redis) == []  # it is loading its model
    registration.publish()
    registration.publish()
    time.sleep(2.5)  # the main thread computes, as far as the thread can tell
    (published,) = worker_info.read(redis)
    assert dataclasses.replace(published, work=WorkerStats()) == mine
    assert claims.take(redis, "bertq", "other") == "f"
    registration.stop()
    assert worker_info.read(redis) == []
    eventually(lambda: claims.take(redis, "bertq", "other") == "other")


def test_a_second_worker_with_the_same_name_is_a_warning(
    redis_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    worker_info.publish(redis, info(["bertq"]))
    registration = start(redis_url, dataclasses.replace(info(["bertq"]), instance="2"))
    registration.publish()
    eventually(lambda: caplog.text)
    registration.stop()
    assert "another worker named stub@test is alive" in caplog.text


@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["mine", "nobody"])
def test_a_dead_worker_with_the_same_name_is_no_warning(
    redis_url: str, redis: Redis, caplog: pytest.LogCaptureFixture, pid: int
) -> None:
    dead = dataclasses.replace(info(["bertq"]), node=f"cpu0@{gethostname()}", pid=pid)
    worker_info.publish(redis, dead)
    registration = start(redis_url, dataclasses.replace(dead, instance="2", pid=os.getpid()))
    registration.publish()
    eventually(lambda: worker_info.read(redis)[0].instance == "2")
    registration.stop()
    assert caplog.text == ""


def test_work_is_published(redis_url: str, redis: Redis) -> None:
    meter = Meter()
    registration = Registration(redis_url, info(["bertq"]), meter, print, print)
    meter.count_chunk(250, 6000)
    registration.start()
    registration.publish()
    eventually(lambda: worker_info.read(redis))
    (published,) = worker_info.read(redis)
    registration.stop()
    assert (published.work.chunks, published.work.sentences, published.work.tokens) == (
        1,
        250,
        6000,
    )


def test_a_worker_leaves_a_queue_that_another_model_has_claimed(
    redis_url: str, redis: Redis
) -> None:
    ended: list[str] = []
    registration = start(redis_url, info(["bertq", "cpu0"]), ended)
    registration.publish()
    eventually(lambda: worker_info.read(redis))
    # Redis has restarted empty, and another model has claimed the queue.
    redis.delete(keys.claim("bertq"))
    claims.take(redis, "bertq", "0123456789abcdef")
    redis.persist(keys.claim("bertq"))
    eventually(lambda: ended)
    assert ended == ["queue bertq is now claimed by another model (0123456789ab)"]
    eventually(lambda: worker_info.read(redis) == [])
    registration.stop()
    assert claims.take(redis, "bertq", "third") == "0123456789abcdef"


def test_an_unreachable_redis_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registration = start("redis://127.0.0.1:1/0", info(["bertq"]), interval_seconds=0.03)
    registration.publish()
    time.sleep(0.5)
    registration.stop()
    assert caplog.text.count("the worker's registration cannot be renewed") == 1
