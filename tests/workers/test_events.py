"""Events of tasks: made and published while a process receives them."""

import base64
import inspect
import json
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from celery.events.dispatcher import EventDispatcher as CeleryEventDispatcher
from celery.events.receiver import EventReceiver
from celery.worker.consumer import events as consumer_events
from redis import Redis
from redis import exceptions as redis_errors

from tests.apps import create_app

CHANNELS = "*celeryev*"


@pytest.fixture
def app(redis_url: str) -> Iterator[Any]:
    app = create_app(redis_url)
    app.amqp_cls = "bertq_workers.celery_compat.expiry:AMQP"
    app.events_cls = "bertq_workers.celery_compat.events:Events"
    yield app
    app.close()


def dispatcher(app: Any, **options: Any) -> Any:
    """Return a dispatcher as a worker has it."""
    connection = app.connection_for_write()
    return app.events.Dispatcher(connection, hostname="h", buffer_group=["task"], **options)


class Receiver:
    """Receives publications of events."""

    def __init__(self, redis: Redis) -> None:
        self._pubsub: Any = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._pubsub.psubscribe(CHANNELS)
        self._pubsub.get_message(timeout=10)  # the confirmation

    def publications(self) -> list[Any]:
        """Return the events of each publication since the last call."""
        found = []
        while message := self._pubsub.get_message(timeout=0.2):
            found.append(json.loads(base64.b64decode(json.loads(message["data"])["body"])))
        return found

    def ids(self) -> list[list[str]]:
        """Return the ids of the tasks in each publication since the last call."""
        return [[event["uuid"] for event in events] for events in self.publications()]

    def close(self) -> None:
        self._pubsub.close()


def test_events_without_receivers_are_dropped(app: Any, redis: Redis) -> None:
    events = dispatcher(app)
    for task in "ab":
        events.send("task-started", uuid=task)
        events.flush()
    events.send("task-started", uuid="c")
    receiver = Receiver(redis)
    events.send("task-started", uuid="d")
    events.flush()
    assert receiver.ids() == [[], ["c", "d"]]
    events.send("task-started", uuid="e")
    events.flush()
    assert receiver.ids() == [["e"]]
    receiver.close()
    for task in "fg":
        events.send("task-started", uuid=task)
        events.flush()
    receiver = Receiver(redis)
    events.send("task-started", uuid="h")
    events.flush()
    assert receiver.ids() == [[], ["h"]]
    receiver.close()
    events.connection.release()


def test_an_event_is_that_of_celery(app: Any, redis_url: str, redis: Redis) -> None:
    stock = create_app(redis_url)
    receiver = Receiver(redis)
    found = []
    for events in (dispatcher(app), dispatcher(stock)):
        events.send("task-succeeded", uuid="a", result="a result", runtime=0.5)
        events.flush()
        events.send("worker-online", freq=2)
        events.connection.release()
        (task,), worker = receiver.publications()
        assert abs(task.pop("timestamp") - time.time()) < 60
        assert worker["type"] == "worker-online"
        assert worker["clock"] == task.pop("clock") + 1
        found.append(task)
    assert found[0] == found[1]
    receiver.close()
    stock.close()


def test_collected_events_outlive_their_connection(app: Any, redis: Redis) -> None:
    receiver = Receiver(redis)
    lost, events = dispatcher(app), dispatcher(app)
    lost.send("task-started", uuid="a")
    lost.disable()
    lost.flush()  # too late
    events.extend_buffer(lost)
    events.flush()
    assert receiver.ids() == [["a"]]
    receiver.close()
    for one in (lost, events):
        one.connection.release()


def test_events_that_redis_does_not_take_are_sent_later(
    app: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver(redis)
    events = dispatcher(app)
    with monkeypatch.context() as patch:
        patch.setattr(Redis, "publish", Mock(side_effect=redis_errors.ConnectionError))
        events.send("task-started", uuid="a")
        events.flush()
    events.send("task-started", uuid="b")
    events.flush()
    assert receiver.ids() == [["a"], ["b"]]
    receiver.close()
    events.connection.release()


def test_many_events_are_sent_before_the_delay(app: Any, redis: Redis) -> None:
    receiver = Receiver(redis)
    events = dispatcher(app)
    for number in range(1001):
        events.send("task-started", uuid=str(number))
    assert list(map(len, receiver.ids())) == [1000]
    receiver.close()
    events.connection.release()


def test_events_of_tasks_can_be_disabled(app: Any, redis: Redis) -> None:
    receiver = Receiver(redis)
    events = dispatcher(app, groups=["worker"])
    events.send("task-started", uuid="a")
    events.flush()
    assert receiver.publications() == []
    receiver.close()
    events.connection.release()


def test_celery_still_uses_the_replaced_methods() -> None:
    stock = inspect.getsource(CeleryEventDispatcher)
    assert "if group in self.buffer_group:" in stock
    assert "self._publish(batch, self.producer, '%s.multi' % group)" in stock
    assert "dis.extend_buffer(prev)\n            dis.flush()" in inspect.getsource(consumer_events)
    assert "[process(*from_message(event)) for event in body]" in inspect.getsource(EventReceiver)
