"""Signs of life for held chunks, on a real server, against kombu's own way of giving them back."""

import inspect
import itertools
import logging
import time
from typing import Any

import pytest
from kombu import Connection, Consumer, Producer, Queue
from kombu.transport import redis as stock
from redis import Redis
from redis.exceptions import ConnectionError as Lost

from bertq_workers.background import heartbeat as module
from bertq_workers.background.heartbeat import Heartbeat, beat
from bertq_workers.celery_compat.transport import Transport
from tests.waiting import eventually

TIMEOUT = 1.0


def connect(url: str) -> Any:
    connection: Any = Connection(url, transport_options={"visibility_timeout": TIMEOUT})
    connection.get_transport_cls = lambda: Transport
    return connection


@pytest.fixture
def holder(redis_url: str) -> Any:
    """A channel with three messages, of which the last is acknowledged."""
    with connect(redis_url) as connection:
        producer = Producer(connection.channel())
        for body in range(3):
            producer.publish(body, routing_key="q", declare=[Queue("q")], retry=False)
        messages: list[Any] = []
        channel = connection.channel()
        with Consumer(channel, [Queue("q")], on_message=messages.append):
            while len(messages) < 3:
                connection.drain_events(timeout=10)
        messages[2].ack()
        channel.qos._flush()
        yield channel


def grow_old(redis: Redis) -> None:
    tags: Any = redis.zrange("unacked_index", 0, -1)
    for tag in tags:
        redis.zadd("unacked_index", {tag: time.time() - 60})


def sweep(url: str) -> None:
    """Return overdue chunks to their queue, as any worker does."""
    with connect(url) as connection:
        connection.channel().qos.restore_visible()


def test_what_is_held_is_not_given_to_another(redis: Redis, redis_url: str, holder: Any) -> None:
    grow_old(redis)
    beat(redis, holder.qos)
    sweep(redis_url)
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == 2
    grow_old(redis)
    sweep(redis_url)
    assert redis.llen("q") == 2
    assert not redis.exists("unacked", "unacked_index")
    # Chunks that another worker has, or that are acknowledged, are not redelivered.
    beat(redis, holder.qos)
    assert not redis.exists("unacked_index")


def test_it_beats_until_it_is_stopped(redis: Redis, redis_url: str, holder: Any) -> None:
    def score() -> float:
        held: Any = redis.zrange("unacked_index", 0, 0, withscores=True)
        return float(held[0][1])

    heartbeat = Heartbeat(redis_url, 0.05)
    heartbeat.watch([holder.qos])
    grow_old(redis)
    eventually(lambda: score() > time.time() - 1)
    heartbeat.stop()
    assert heartbeat._thread is not None
    heartbeat._thread.join(10)
    grow_old(redis)
    time.sleep(0.2)
    assert score() < time.time() - 50


def test_it_outlives_failures_and_says_so_once(
    redis: Redis,
    redis_url: str,
    holder: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries = itertools.count()

    def third(*arguments: Any) -> None:
        if next(tries) < 2:
            raise Lost("gone")
        beat(*arguments)

    caplog.set_level(logging.WARNING, "bertq.worker")
    monkeypatch.setattr(module, "beat", third)
    heartbeat = Heartbeat(redis_url, 0.05)
    grow_old(redis)
    heartbeat.watch([holder.qos])
    eventually(lambda: redis.zcount("unacked_index", time.time() - 5, "+inf") == 2)
    heartbeat.stop()
    assert caplog.messages == ["held chunks cannot be renewed: ConnectionError"]


def test_kombu_still_goes_by_the_time_of_delivery() -> None:
    sweep = inspect.getsource(stock.QoS.restore_visible)
    assert "ceil = time() - self.visibility_timeout" in sweep
    assert "self.unacked_index_key, ceil, 0," in sweep
    assert "zadd_args = [{delivery_tag: time()}]" in inspect.getsource(stock.QoS.append)
