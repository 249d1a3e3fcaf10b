"""Unacknowledged chunks while Redis refuses writes, on a server that is full or lacks replicas.

A full server delivers messages and refuses writes; without its replicas it refuses both.
"""

import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.worker import state
from kombu import Connection, Consumer, Producer, Queue
from kombu.asynchronous import Hub, set_event_loop
from kombu.transport import redis as stock
from redis import Redis, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from bertq_workers.celery_compat.transport import Transport
from bertq_workers.celery_compat.unacked import QoS
from tests.conftest import StartServer
from tests.waiting import eventually
from tests.workers.test_transport import bodies, take

FULL = {"maxmemory": "1", "min-replicas-to-write": "0"}
ALONE = {"maxmemory": "0", "min-replicas-to-write": "1"}
WELL = {"maxmemory": "0", "min-replicas-to-write": "0"}


@pytest.fixture
def redis(start_own_server: StartServer) -> Iterator[Redis]:
    with Redis(port=start_own_server().port) as connection:
        yield connection


@pytest.fixture
def suffer(redis: Redis) -> Callable[[dict[str, str]], None]:
    """Put the server into a state."""

    def act(state: dict[str, str]) -> None:
        for name, value in state.items():
            redis.config_set(name, value)

    return act


@pytest.fixture
def connection(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Any]:
    """A worker's connection that retries without a pause."""
    caplog.set_level(logging.INFO, "bertq.worker")
    monkeypatch.setattr(QoS, "retry_seconds", 0.05)
    port = redis.connection_pool.connection_kwargs["port"]
    made: Any = Connection(f"redis://127.0.0.1:{port}/0")
    made.get_transport_cls = lambda: Transport
    yield made
    made.release()


@pytest.fixture
def hub() -> Iterator[Any]:
    """The event loop that runs the retries."""
    made: Any = Hub()
    set_event_loop(made)
    yield made
    set_event_loop(None)
    made.close()


def send(connection: Any, *texts: str) -> None:
    producer = Producer(connection.channel())
    for text in texts:
        producer.publish(text, routing_key="q", declare=[Queue("q")], retry=False)


def turn(hub: Any, until: Callable[[], object]) -> None:
    """Run the timers of the loop until a condition is true."""

    def done() -> object:
        hub.fire_timers()
        for callback in hub._pop_ready():
            callback()
        return until()

    eventually(done)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


MEMORY = "Redis refuses (OutOfMemoryError): new chunks are in the memory of this worker only"


@pytest.mark.parametrize(("at_once", "came"), [(1, 1), (4, 3)])
def test_chunks_that_a_full_redis_cannot_note_are_delivered(
    connection: Any, redis: Redis, suffer: Any, hub: Any, at_once: int, came: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    send(connection, "a", "b", "c")
    suffer(FULL)
    channel, messages = take(connection, at_once)
    assert bodies(messages) == ["a", "b", "c"][:came]
    assert not redis.exists("unacked", "unacked_index")
    for message in messages[1:]:
        message.ack()  # harmless
    end = time.monotonic() + 4 * QoS.retry_seconds
    turn(hub, lambda: time.monotonic() > end)  # some attempts are refused
    assert warnings(caplog) == [MEMORY]
    suffer(WELL)
    turn(hub, lambda: redis.hlen("unacked") == redis.zcard("unacked_index") == 1)
    assert caplog.messages[-1].startswith("Redis no longer refuses")
    channel.close()
    assert redis.llen("q") == 3 - came + 1
    assert not redis.exists("unacked", "unacked_index")


def test_it_takes_no_chunk_for_a_moment_after_a_refusal(
    connection: Any, suffer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QoS, "retry_seconds", 60.0)
    send(connection, "a", "b")
    suffer(FULL)
    channel, _ = take(connection)
    assert not channel.qos.can_consume()


def test_a_refused_pop_is_retried(
    connection: Any, suffer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    send(connection, "a secret")
    messages: list[Any] = []
    small, large = connection.channel(), connection.channel()
    small.max_messages = lambda: 4
    consumers: list[Any] = [Consumer(channel, [Queue("q")]) for channel in (small, large)]
    for consumer in consumers:
        consumer.on_message = messages.append
        consumer.consume()
    suffer(ALONE)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)
    assert messages == []
    # Once, and not for each channel and try.
    assert warnings(caplog)[0] == "Redis refuses (NOREPLICAS): no chunks can be taken"
    assert caplog.text.count("no chunks can be taken") == 1
    suffer(WELL)
    while not messages:
        connection.drain_events(timeout=10)
    assert "secret" not in caplog.text


def test_a_refused_acknowledgement_is_tried_again(
    connection: Any, redis: Redis, suffer: Any, hub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    send(connection, "a", "b")
    _, messages = take(connection, 2, 2)
    suffer(ALONE)
    for message in messages:
        message.ack()
    turn(hub, lambda: warnings(caplog))
    assert redis.hlen("unacked") == 2
    assert warnings(caplog) == [
        "Redis refuses (NOREPLICAS): answered chunks cannot be acknowledged"
    ]
    suffer(WELL)
    turn(hub, lambda: not redis.exists("unacked", "unacked_index"))


def test_a_stopping_worker_acknowledges_when_it_can(
    connection: Any, redis: Redis, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(connection, "a", "b", "c")
    channel, messages = take(connection, 3, 3)
    monkeypatch.setattr(state, "should_stop", os.EX_OK)  # the loop does not turn any more
    messages[0].ack()
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == 2

    def refuse(**_: Any) -> None:
        raise RedisConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(channel, "_create_client", refuse)
        messages[1].ack()
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == 2
    channel.close()
    assert not redis.exists("unacked", "unacked_index")
    assert redis.llen("q") == 1  # only the unanswered one


@pytest.mark.parametrize("noted", [True, False])
def test_a_chunk_that_cannot_be_returned_stays_unacknowledged(
    connection: Any, redis: Redis, suffer: Any, hub: Any, noted: bool
) -> None:
    send(connection, "a")
    if noted:
        channel, messages = take(connection)
    suffer(FULL)
    if not noted:
        channel, messages = take(connection)
    messages[0].requeue()
    assert channel.qos.tags() == [messages[0].delivery_tag]
    assert not channel.qos.can_consume()
    assert redis.llen("q") == 0
    suffer(WELL)
    turn(hub, lambda: redis.llen("q") == 1)
    assert not redis.exists("unacked", "unacked_index")


def test_a_closed_channel_does_not_return_chunks_in_progress(
    connection: Any, redis: Redis, suffer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    send(connection, "a", "b")
    channel, _ = take(connection, 2, 2)
    suffer(FULL)
    channel.close()
    (line,) = warnings(caplog)
    assert line.startswith("2 chunks could not be returned (OutOfMemoryError); other workers ")
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == 2  # for another worker


def test_after_a_refused_sweep_living_workers_renew_their_chunks_first(
    connection: Any, redis: Redis, suffer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    send(connection, "a")
    _, messages = take(connection)
    redis.zadd("unacked_index", {messages[0].delivery_tag: 0})
    other = connection.channel()
    other.visibility_timeout = 4
    suffer(FULL)
    for _ in range(3):
        other.qos.restore_visible(interval=1)
    suffer(WELL)
    other.qos.restore_visible(interval=1)
    assert redis.hlen("unacked") == 1
    assert warnings(caplog) == [
        "Redis refuses (OutOfMemoryError): chunks of dead workers cannot be delivered again"
    ]
    time.sleep(other.visibility_timeout / 2)
    other.qos.restore_visible(interval=1)
    assert redis.llen("q") == 1


def test_a_bug_in_a_retry_ends_the_worker(
    connection: Any, suffer: Any, hub: Any, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail() -> None:
        raise TypeError(bodies(messages))

    send(connection, "xylophone")
    suffer(FULL)
    channel, messages = take(connection)
    with monkeypatch.context() as patched:
        patched.setattr(state, "should_stop", None)
        patched.setattr(channel.qos, "flush", fail)
        turn(hub, lambda: state.should_stop is not None)
        assert state.should_stop == os.EX_SOFTWARE
    assert "this worker ends: a retry of refused commands failed (TypeError)" in caplog.text
    assert "xylophone" not in caplog.text


@pytest.mark.parametrize(
    "entry",
    [
        "secret",
        "\xff",
        "5",
        "[1]",
        '["secret", "", "q"]',
        '[{"body": "secret"}, "", "q"]',
        "[" * 9999,
    ],
)
def test_an_invalid_entry_does_not_prevent_that_others_are_returned(
    connection: Any, redis: Redis, caplog: pytest.LogCaptureFixture, entry: str
) -> None:
    send(connection, "a")
    _, messages = take(connection)
    redis.hset("unacked", "invalid", entry.encode("latin-1"))
    redis.zadd("unacked_index", {messages[0].delivery_tag: 1, "invalid": 2})
    connection.channel().qos.restore_visible(interval=1)
    assert redis.llen("q") == 1
    assert not redis.exists("unacked", "unacked_index")
    assert "dropped an entry of unacked" in caplog.text
    assert "secret" not in caplog.text


def test_kombu_still_fails_where_redis_refuses() -> None:
    poller: Any = stock.MultiChannelPoller
    channel: Any = stock.Channel
    asked = inspect.getsource(poller.on_poll_start)
    assert asked.index("channel.qos.can_consume()") < asked.index("self._register_BRPOP(channel)")
    assert "except channel.connection_errors:" in inspect.getsource(poller.maybe_restore_messages)
    assert "exc_info=True" in inspect.getsource(poller.maybe_refresh_binding_expiry)
    assert "channel.maybe_refresh_binding_expiry()" in inspect.getsource(
        poller.maybe_refresh_binding_expiry
    )
    assert "self._receive_one(c)" in inspect.getsource(channel._receive)
    assert "with Mutex(client" in inspect.getsource(stock.QoS.restore_visible)
    assert "self.restore_by_tag(delivery_tag, leftmost=True)" in inspect.getsource(stock.QoS.reject)
    assert "self._in_poll = None" in inspect.getsource(channel._brpop_read)
    assert "self.restore_by_tag(tag, client)" in inspect.getsource(stock.QoS.restore_visible)
    assert "self.channel._do_restore_message(" in inspect.getsource(stock.QoS.restore_by_tag)
    assert "crit('Could not restore message: %r', payload" in inspect.getsource(
        channel._do_restore_message
    )
    assert "logger.error('Error in timer" in inspect.getsource(Hub.fire_timers)
    assert ResponseError in Transport.channel_errors
    assert ResponseError not in Transport.connection_errors
