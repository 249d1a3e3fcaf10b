"""The heartbeat of unacknowledged chunks, on a real server, against redelivery by kombu."""

import inspect
import logging
import threading
import time
from typing import Any

import pytest
from kombu import Connection, Consumer, Producer, Queue
from kombu.transport import redis as stock
from redis import Redis
from redis.exceptions import ConnectionError as Lost

from bertq_workers.background.heartbeat import Heartbeat
from bertq_workers.background.redis_thread import RedisThread
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
        channel.qos.flush()
        yield channel


def grow_old(redis: Redis) -> None:
    tags: Any = redis.zrange("unacked_index", 0, -1)
    for tag in tags:
        redis.zadd("unacked_index", {tag: time.time() - 60})


def sweep(url: str) -> None:
    """Return overdue chunks to their queue, as any worker does."""
    with connect(url) as connection:
        connection.channel().qos.restore_visible()


def test_a_renewed_chunk_is_not_redelivered(redis: Redis, redis_url: str, holder: Any) -> None:
    grow_old(redis)
    holder.qos.renew(redis)
    sweep(redis_url)
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == 2
    grow_old(redis)
    sweep(redis_url)
    assert redis.llen("q") == 2
    assert not redis.exists("unacked", "unacked_index")
    # Chunks that another worker has, or that are acknowledged, are not redelivered.
    holder.qos.renew(redis)
    assert not redis.exists("unacked_index")


def test_the_heartbeat_runs_until_it_is_stopped(redis: Redis, redis_url: str, holder: Any) -> None:
    def score() -> float:
        held: Any = redis.zrange("unacked_index", 0, 0, withscores=True)
        return float(held[0][1])

    heartbeat = Heartbeat(redis_url, 0.05)
    heartbeat.renew_for([holder.qos])
    grow_old(redis)
    eventually(lambda: score() > time.time() - 1)
    heartbeat.stop()
    eventually(lambda: "bertq-heartbeat" not in [thread.name for thread in threading.enumerate()])
    grow_old(redis)
    time.sleep(0.2)
    assert score() < time.time() - 50


def test_it_continues_after_failures_and_logs_one_line(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        calls = 0

        def renew(self, _: Redis) -> None:
            self.calls += 1
            if self.calls < 3:
                raise Lost("gone")

    caplog.set_level(logging.WARNING, "bertq.worker")
    qos: Any = Failing()
    heartbeat = Heartbeat(redis_url, 0.05)
    heartbeat.renew_for([qos])
    eventually(lambda: qos.calls > 4)
    heartbeat.stop()
    assert caplog.messages == ["unacknowledged chunks cannot be renewed: ConnectionError"]


def test_an_unexpected_error_ends_the_thread(redis_url: str) -> None:
    errors: list[tuple[str, BaseException]] = []
    stopped = threading.Event()

    def fail(_: Redis) -> None:
        raise TypeError

    thread = RedisThread(
        "bertq-test",
        redis_url,
        fail,
        interval_seconds=0.05,
        failure="nothing can be done",
        on_stop=lambda _: stopped.set(),
        on_error=lambda part, error: errors.append((part, error)),
    )
    thread.start()
    eventually(lambda: errors)
    thread.join(5)
    ((part, error),) = errors
    assert part == "thread bertq-test"
    assert isinstance(error, TypeError)
    assert stopped.is_set()


def test_kombu_still_goes_by_the_time_of_delivery() -> None:
    sweep = inspect.getsource(stock.QoS.restore_visible)
    assert "ceil = time() - self.visibility_timeout" in sweep
    assert "self.unacked_index_key, ceil, 0," in sweep
    assert "zadd_args = [{delivery_tag: time()}]" in inspect.getsource(stock.QoS.append)
