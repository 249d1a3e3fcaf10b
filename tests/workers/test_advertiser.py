"""The thread that renews a worker's advert."""

import dataclasses
import logging
import os
import time

import pytest
from celery.utils.nodenames import gethostname
from redis import Redis

from bertq.protocol import keys
from bertq.state import claims, worker_info
from bertq.state.worker_info import WorkerStats
from bertq_workers.background.registration import Registration
from bertq_workers.observability.meter import Meter
from tests.client.stub import info
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _audible(caplog: pytest.LogCaptureFixture) -> None:
    # Celery workers of other tests in this process have set levels of their own.
    caplog.set_level(logging.WARNING, "bertq.worker")


def make(url: str, left: list[str] | None = None) -> Registration:
    """An advertiser; the reasons for which its worker should leave go to ``left``."""
    return Registration(lambda: url, Meter(), ([] if left is None else left).append)


def test_the_worker_info_is_renewed_while_the_main_thread_is_busy(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "WORKER_TTL_SECONDS", 1)
    advertiser = make(redis_url)
    mine = info(["bertq"])
    advertiser.hold(mine)
    eventually(lambda: redis.get(keys.claim("bertq")) == b"f")
    assert worker_info.read(redis) == []  # it is loading its model
    advertiser.announce()
    advertiser.announce()
    time.sleep(2.5)  # the main thread computes, as far as the advert can tell
    (published,) = worker_info.read(redis)
    assert dataclasses.replace(published, work=WorkerStats()) == mine
    assert claims.take(redis, "bertq", "other") == "f"
    advertiser.stop()
    assert worker_info.read(redis) == []
    eventually(lambda: claims.take(redis, "bertq", "other") == "other")


def test_a_second_worker_with_the_same_name_is_a_warning(
    redis_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    worker_info.publish(redis, info(["bertq"]))
    advertiser = make(redis_url)
    advertiser.hold(dataclasses.replace(info(["bertq"]), instance="2"))
    advertiser.announce()
    eventually(lambda: caplog.text)
    advertiser.stop()
    assert "another worker named stub@test is alive" in caplog.text


@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["mine", "nobody"])
def test_a_dead_worker_with_the_same_name_is_no_warning(
    redis_url: str, redis: Redis, caplog: pytest.LogCaptureFixture, pid: int
) -> None:
    dead = dataclasses.replace(info(["bertq"]), node=f"cpu0@{gethostname()}", pid=pid)
    worker_info.publish(redis, dead)
    advertiser = make(redis_url)
    advertiser.hold(dataclasses.replace(dead, instance="2", pid=os.getpid()))
    advertiser.announce()
    eventually(lambda: worker_info.read(redis)[0].instance == "2")
    advertiser.stop()
    assert caplog.text == ""


def test_work_is_published(redis_url: str, redis: Redis) -> None:
    meter = Meter()
    advertiser = Registration(lambda: redis_url, meter, print)
    meter.count_chunk(250, 6000)
    advertiser.hold(info(["bertq"]))
    advertiser.announce()
    eventually(lambda: worker_info.read(redis))
    (published,) = worker_info.read(redis)
    advertiser.stop()
    assert (published.work.chunks, published.work.sentences, published.work.tokens) == (
        1,
        250,
        6000,
    )


def test_a_worker_leaves_a_queue_that_another_model_has_claimed(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "WORKER_TTL_SECONDS", 1)
    left: list[str] = []
    advertiser = make(redis_url, left)
    advertiser.hold(info(["bertq", "cpu0"]))
    advertiser.announce()
    eventually(lambda: worker_info.read(redis))
    # Redis has restarted empty, and another model has claimed the queue.
    redis.delete(keys.claim("bertq"))
    claims.take(redis, "bertq", "0123456789abcdef")
    redis.persist(keys.claim("bertq"))
    eventually(lambda: left)
    assert left == ["queue bertq is now held by another model (0123456789ab)"]
    eventually(lambda: worker_info.read(redis) == [])
    advertiser.stop()
    assert claims.take(redis, "bertq", "third") == "0123456789abcdef"


def test_an_unreachable_redis_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "WORKER_TTL_SECONDS", 0.1)
    advertiser = make("redis://127.0.0.1:1/0")
    advertiser.hold(info(["bertq"]))
    advertiser.announce()
    time.sleep(0.5)
    advertiser.stop()
    assert caplog.text.count("the worker's registration cannot be renewed") == 1
