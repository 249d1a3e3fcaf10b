"""The thread that renews a worker's advert."""

import dataclasses
import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

from bertq import adverts, keys
from bertq_workers.advertiser import Advertiser
from tests.client.stub import advert
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _audible(caplog: pytest.LogCaptureFixture) -> None:
    # Celery workers of other tests in this process have set levels of their own.
    caplog.set_level(logging.WARNING, "bertq.worker")


def app_at(url: str) -> Any:
    """What an advertiser needs of an app."""
    return SimpleNamespace(conf=SimpleNamespace(broker_url=url))


def test_the_advert_outlives_a_chunk_that_keeps_the_main_thread_busy(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "WORKER_TTL", 1)
    advertiser = Advertiser(app_at(redis_url))
    advertiser.start()  # without an advert there is nothing to start
    advertiser.advert = advert(["bertq"])
    advertiser.start()
    advertiser.start()
    time.sleep(2.5)  # the main thread computes, as far as the advert can tell
    assert adverts.read(redis) == [advertiser.advert]
    advertiser.stop()
    assert adverts.read(redis) == []


def test_a_namesake_is_warned_about(
    redis_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    adverts.publish(redis, advert(["bertq"]))
    advertiser = Advertiser(app_at(redis_url))
    advertiser.advert = dataclasses.replace(advert(["bertq"]), instance="2")
    advertiser.start()
    eventually(lambda: caplog.text)
    advertiser.stop()
    assert "another worker named stub@test is alive" in caplog.text


def test_redis_out_of_reach_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "WORKER_TTL", 0.1)
    advertiser = Advertiser(app_at("redis://127.0.0.1:1/0"))
    advertiser.advert = advert(["bertq"])
    advertiser.start()
    time.sleep(0.5)
    advertiser.stop()
    assert caplog.text.count("the advert cannot be renewed") == 1
