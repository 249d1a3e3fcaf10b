"""Taking messages and acknowledging them on a real server, against kombu's own way of it."""

import gc
import inspect
import json
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest
from celery.backends.redis import RedisBackend
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.transport import redis as stock
from kombu.transport import virtual
from redis import Redis, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from bertq_client.outbox.message import MessageBuilder
from bertq_workers.celery_compat import message_parsing
from bertq_workers.celery_compat.expiry import ExpiringTransport
from bertq_workers.celery_compat.transport import Channel, Transport
from tests import records


@pytest.fixture
def connect(redis_url: str) -> Iterator[Callable[..., Any]]:
    """Open connections by a transport; they end with the test."""
    opened: list[Any] = []

    def make(transport: Any = Transport) -> Any:
        connection: Any = Connection(redis_url)
        connection.get_transport_cls = lambda: transport
        opened.append(connection)
        return connection

    assert get_event_loop() is None
    yield make
    for connection in opened:
        connection.release()


@pytest.fixture
def send(redis_url: str) -> Iterator[Callable[..., None]]:
    """Send bodies to the queue ``q``."""
    with Connection(redis_url) as connection, connection.channel() as channel:
        producer = Producer(channel)

        def act(*bodies: int) -> None:
            for body in bodies:
                producer.publish(body, routing_key="q", declare=[Queue("q")], retry=False)

        yield act


@pytest.fixture
def event_loop() -> Iterator[Callable[[Any], object]]:
    """Make something the event loop of the worker."""
    yield set_event_loop
    set_event_loop(None)


def take(connection: Any, at_once: int = 1, count: int = 1) -> tuple[Any, list[Any]]:
    """Consume from ``q`` until ``count`` messages have come; return channel and messages."""
    messages: list[Any] = []
    channel = connection.channel()
    if isinstance(channel, Channel):
        channel.max_messages = lambda: at_once
    # A full Redis before 7.2 does not answer the transaction that declares a queue.
    consumer = Consumer(channel, [Queue("q", no_declare=True)], on_message=messages.append)
    consumer.consume()
    while len(messages) < count:
        connection.drain_events(timeout=10)
    return channel, messages


def bodies(messages: list[Any]) -> list[Any]:
    return [message.payload for message in messages]


@pytest.mark.parametrize(("at_once", "came"), [(1, 1), (2, 2), (3, 3), (16, 5)])
def test_the_number_of_chunks_is_limited(
    connect: Any, send: Any, redis: Redis, at_once: int, came: int
) -> None:
    send(1, 2, 3, 4, 5)
    _, messages = take(connect(), at_once)
    assert bodies(messages) == [1, 2, 3, 4, 5][:came]
    assert redis.llen("q") == 5 - came
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == came


def test_unacked_holds_what_kombu_would_have_written(connect: Any, send: Any, redis: Redis) -> None:
    def entries(connection: Any, at_once: int) -> list[Any]:
        send(1, 2)
        channel, messages = take(connection, at_once, 2)
        stored: Any = redis.hmget("unacked", [message.delivery_tag for message in messages])
        documents = [json.loads(text) for text in stored]
        for message in messages:
            message.ack()
        channel.close()
        for document in documents:
            document[0]["properties"]["delivery_tag"] = None
        return documents

    assert entries(connect(), 2) == entries(connect(stock.Transport), 1)
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == 0


def take_small(connection: Any, redis: Redis, *jobs: str) -> tuple[Any, list[Any], list[Any]]:
    """Take messages of small requests; return channel, messages and records by tag."""
    for job in jobs:
        records.write(redis, job)
        redis.lpush("q", MessageBuilder("me").build(f"{job}-0", ["a"], "q"))
    messages: list[Any] = []
    found: list[Any] = []
    channel = connection.channel()
    channel.max_messages, channel.qos.reads_records = (lambda: 8), True
    channel.on_delivered = found.append
    Consumer(channel, [Queue("q")], on_message=messages.append).consume()
    while not found:
        connection.drain_events(timeout=10)
    return channel, messages, found


def test_records_are_read_while_messages_are_delivered(connect: Any, redis: Redis) -> None:
    redis.script_flush()
    for jobs in (("a", "b"), ("c",)):  # with and without the script on the server
        channel, messages, (found,) = take_small(connect(), redis, *jobs)
        assert [message.delivery_tag for message in messages] == [f"{job}-0" for job in jobs]
        assert {tag: record.is_active for tag, record in found.items()} == {
            f"{job}-0": True for job in jobs
        }
        assert redis.hlen("unacked") == redis.zcard("unacked_index") == len(jobs)
        for message in messages:
            message.ack()
        channel.close()


@pytest.mark.parametrize("knows_script", [True, False])
@pytest.mark.parametrize("jobs", ["aabb", "abab", "aaab", "aaa"])
def test_a_chunk_that_is_in_the_queue_twice(
    connect: Any, redis: Redis, jobs: str, knows_script: bool
) -> None:
    """As after a failover: workers return chunks, and clients send them again."""
    take_small(connect(), redis, *set(jobs))[0].close()  # returns them
    if not knows_script:
        redis.script_flush()
    channel, messages, (found,) = take_small(connect(), redis, *jobs)
    tags = sorted({f"{job}-0" for job in jobs})
    assert sorted(message.delivery_tag for message in messages) == sorted(found) == tags
    assert all(message.delivery_info["redelivered"] for message in messages)
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == len(tags)
    for message in messages:
        message.ack()
    channel.close()
    assert not redis.exists("unacked", "unacked_index", "q")


def test_messages_that_come_while_a_note_is_written(connect: Any, redis: Redis) -> None:
    connection = connect()
    channel, _, _ = take_small(connection, redis, "a")
    text = MessageBuilder("me").build("inner-0", ["a"], "q")
    _, entry = message_parsing.parse_envelope(text.encode(), "q")

    def write_others() -> None:
        for _ in range(2):
            assert "inner-0" in channel.qos.write({"inner-0": entry})

    for job in ("inner", "outer", "next"):
        records.write(redis, job)
    outer = {f"{job}-0": entry for job in ("outer", "next")}
    assert set(channel.qos.write(outer, write_others)) >= set(outer)
    assert redis.hlen("unacked") == 4


def test_a_note_whose_answer_is_lost(
    connect: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect()
    channel, messages, found = take_small(connection, redis, "a")
    messages[0].ack()
    del messages[:], found[:]
    records.write(redis, "b")
    redis.lpush("q", MessageBuilder("me").build("b-0", ["a"], "q"))
    error = channel.connection_errors[0]
    with monkeypatch.context() as patch:
        patch.setattr(channel.qos._connection, "read_response", Mock(side_effect=error))
        with pytest.raises(error):
            connection.drain_events(timeout=10)
    # It is delivered without a record, and in Redis: another worker may get it.
    assert [message.delivery_tag for message in messages] == ["b-0"]
    assert found == [{}]
    channel.close()
    assert redis.llen("q") == 1
    assert not redis.exists("unacked", "unacked_index")


def test_unacknowledged_chunks_are_returned_in_order(connect: Any, send: Any, redis: Redis) -> None:
    send(1, 2, 3)
    channel, messages = take(connect(), 2, 2)
    messages[0].ack()
    channel.close()
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == 0
    _, messages = take(connect(), 3)
    assert bodies(messages) == [2, 3]
    assert messages[0].delivery_info["redelivered"]


def test_a_rejected_message_goes_back(connect: Any, send: Any, redis: Redis) -> None:
    send(1)
    _, messages = take(connect(), 2)
    messages[0].requeue()
    assert (redis.llen("q"), redis.hlen("unacked")) == (1, 0)


@pytest.mark.parametrize("count", [3, 70])
def test_acknowledgements_are_collected_for_a_moment(
    connect: Any, send: Any, redis: Redis, event_loop: Callable[[Any], object], count: int
) -> None:
    hub: Any = Hub()
    event_loop(hub)
    send(*range(count))
    channel, messages = take(connect(), count)
    for message in messages:
        message.ack()
    # All wait for the timer, but for 64 that are too many to wait.
    assert redis.hlen("unacked") == count % 64
    assert len(hub.timer) == 1
    while redis.hlen("unacked"):
        hub.run_once()
    assert redis.zcard("unacked_index") == 0
    hub.close()
    channel.close()
    assert redis.llen("q") == 0


def test_closing_a_channel_sends_the_collected_acknowledgements(
    connect: Any, send: Any, redis: Redis, event_loop: Callable[[Any], object]
) -> None:
    hub: Any = Hub()
    event_loop(hub)
    send(1, 2)
    channel, messages = take(connect(), 2)
    messages[0].ack()
    assert redis.hlen("unacked") == 2
    hub.close()
    channel.close()
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == 0
    assert redis.llen("q") == 1


def test_an_acknowledgement_that_cannot_be_sent_is_a_line(
    connect: Any, send: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "bertq.worker")
    send(1, 2)
    channel, messages = take(connect(), 2, 2)

    def gone(*_: Any) -> Any:
        raise channel.connection_errors[0]("gone")

    with monkeypatch.context() as patch:
        patch.setattr(channel, "_create_client", gone)
        for message in messages:
            message.ack()
    assert caplog.text.count("answered chunks could not be acknowledged") == 1


def test_a_message_that_comes_while_the_channel_closes_returns_to_its_queue(
    connect: Any, redis: Redis
) -> None:
    records.write(redis, "job")
    message = MessageBuilder("me").build("job-0", ["a"], "q")
    connection = connect()
    # kombu returns it through the first channel of the connection.
    assert connection.channel() is not None
    channel = connection.channel()
    channel.max_messages, channel.qos.reads_records = (lambda: 8), True
    consumer = Consumer(channel, [Queue("q")], on_message=lambda _: pytest.fail("delivered"))
    consumer.consume()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)  # afterwards the channel still waits for messages
    redis.lpush("q", message)
    consumer.cancel()
    channel.close()
    assert not redis.exists("unacked", "unacked_index")
    sent, returned = json.loads(message), json.loads(redis.lpop("q"))  # type: ignore[arg-type]
    assert returned["properties"]["delivery_info"]["redelivered"] is True
    assert (returned["body"], returned["headers"]["id"]) == (sent["body"], "job-0")


def test_a_malformed_message_is_skipped(
    connect: Any, send: Any, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "bertq.worker")
    for text in ("no json: a secret", "5", "{}", '{"properties": {}}'):
        redis.lpush("q", text)
    send(1)
    _, messages = take(connect(), 8)
    assert bodies(messages) == [1]
    assert redis.hlen("unacked") == 1
    assert caplog.text.count("refused a message") == 4
    assert "secret" not in caplog.text


def test_a_server_without_the_command(
    connect: Any, send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(self: Redis, *args: Any, **options: Any) -> Any:
        if args[0] == "BLMPOP":
            asked.append(args)
            raise ResponseError("unknown command 'BLMPOP'")
        return execute(self, *args, **options)

    execute: Any = Redis.execute_command
    monkeypatch.setattr(Redis, "execute_command", refuse)
    send(1, 2)
    _, messages = take(connect(), 8, 2)
    assert bodies(messages) == [1, 2]
    assert len(asked) == 1


def test_a_channel_has_one_client(connect: Any) -> None:
    channel = connect().channel()
    with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
        assert first is second
    channel._disconnect_pools()
    with channel.conn_or_acquire() as third:
        assert third is not first
        assert third.ping()


def test_kombu_adds_one_callback_to_the_event_loop(
    connect: Any, event_loop: Callable[[Any], object]
) -> None:
    hub: Any = Hub()
    event_loop(hub)
    callbacks = set(hub.on_tick)
    connection = connect(stock.Transport)
    connection.transport.register_with_event_loop(connection.connection, hub)
    assert len(hub.on_tick - callbacks) == 1
    hub.close()


def test_sockets_are_added_to_the_event_loop_once(
    connect: Any, send: Any, event_loop: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub: Any = Hub()
    event_loop(hub)
    connection = connect()
    messages: list[Any] = []
    channel = connection.channel()
    Consumer(channel, [Queue("q")], on_message=messages.append).consume()
    connection.transport.register_with_event_loop(connection.connection, hub)

    def receive(body: int) -> None:
        send(body)
        while body not in bodies(messages):
            hub.run_once()

    receive(0)
    register = Mock(side_effect=hub.poller.register)
    monkeypatch.setattr(hub.poller, "register", register)
    receive(1)
    assert not register.called
    channel.client.connection.disconnect()  # as kombu does if Redis does not answer
    receive(2)
    assert register.called
    hub.close()


@pytest.mark.parametrize("transport", [Transport, ExpiringTransport])
def test_nothing_is_left_of_a_lost_connection(
    connect: Any, redis: Redis, event_loop: Callable[[Any], object], transport: Any
) -> None:
    hub: Any = Hub()
    event_loop(hub)
    callbacks = set(hub.on_tick)
    connection = connect(transport)
    channels = [connection.channel() for _ in range(2)]
    for channel in channels:
        Consumer(channel, [Queue("q")], on_message=Mock()).consume()
    connection.transport.register_with_event_loop(connection.connection, hub)
    assert hub.on_tick != callbacks
    hub.run_once()  # sends a blocking command
    redis.client_kill_filter(_type="normal", skipme=True)
    connection.collect()  # as Celery does with a lost connection
    assert hub.on_tick == callbacks
    assert not hub.readers
    references = [weakref.ref(channel) for channel in channels]
    del channel, channels
    hub.close()
    hub.timer.clear()  # Celery cancels timers by itself
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize("transport", [Transport, ExpiringTransport])
def test_a_broadcast_on_a_connection_to_an_old_primary(connect: Any, transport: Any) -> None:
    exchange = Exchange("news", type="fanout")
    connection = connect(transport)
    channel = connection.channel()
    Consumer(channel, [Queue("reader", exchange)], on_message=Mock()).consume()
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.2)  # subscribes
    connection.transport.primary.leave()
    Producer(connect().channel(), exchange).publish("hello")
    with pytest.raises(RedisConnectionError):
        connection.drain_events(timeout=10)


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (stock.Channel, "_create_client", ["self", "asynchronous"]),
        (stock.Channel, "_brpop_start", ["self", "timeout"]),
        (stock.Channel, "_brpop_read", ["self", "options"]),
        (stock.Channel, "conn_or_acquire", ["self", "client"]),
        (stock.Channel, "_connparams", ["self", "asynchronous"]),
        (stock.Channel, "_q_for_pri", ["self", "queue", "pri"]),
        (stock.Channel, "_flush_brpop_reauth", ["self"]),
        (stock.Channel, "_receive_one", ["self", "c"]),
        (stock.Channel, "_deliver_fanout_message", ["self", "message", "exchange"]),
        (stock.Channel, "maybe_refresh_binding_expiry", ["self"]),
        (virtual.Message, "_decode", ["self"]),
        (RedisBackend, "_create_client", ["self", "params"]),
        (RedisBackend, "_params_from_url", ["self", "url", "defaults"]),
        (stock.QoS, "append", ["self", "message", "delivery_tag"]),
        (stock.QoS, "ack", ["self", "delivery_tag"]),
        (stock.QoS, "reject", ["self", "delivery_tag", "requeue"]),
        (stock.QoS, "can_consume", ["self"]),
        (stock.QoS, "restore_by_tag", ["self", "tag", "client", "leftmost"]),
        (stock.QoS, "restore_visible", ["self", "start", "num", "interval"]),
        (stock.QoS, "restore_unacked_once", ["self", "stderr"]),
        (stock.QoS, "pipe_or_acquire", ["self", "pipe", "client"]),
    ],
)
def test_the_private_parts_still_exist(owner: Any, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_closing_a_channel_without_a_connection_is_an_error_that_celery_handles(
    redis: Redis, connect: Callable[..., Any], send: Callable[..., None]
) -> None:
    send(1)
    connection = connect()
    channel, _ = take(connection)
    connection.transport.client = None  # as Connection.collect leaves it
    with pytest.raises(connection.connection_errors, match="the connection is closed"):
        channel.close()
    # The worker finishes its chunks, and they are redelivered later.
    assert redis.hlen("unacked") == 1
    assert "self._transport.client = None" in inspect.getsource(Connection._do_close_transport)
