"""Connections of the app: they find the primary, and give each key of kombu a time to live.

A connection to a URL of Sentinels asks them for the primary (see ``bertq.redis.primary``); kombu
gets the URL of one of them, in its own form.

kombu gives no time to live to most of its keys: queues, replies to remote control, tables of
bindings. Here, each key that a process of the app writes lives for a
day after the last write or, if workers serve the queue, after the last sign of a worker
(``bertq_workers.background.registration``). The tables of bindings are written again when a queue
is declared; bertq's own messages do not need them.

Relies on private parts of celery and kombu 5.7 (the versions are pinned, and
tests/workers/test_expiry.py checks each): ``_put``, ``_put_fanout``, ``_queue_bind``,
``_refresh_bindings``, ``_receive_one`` and ``_do_restore_message`` of a channel, its names of keys
and ``_get_publish_topics``, ``add`` of a batch; ``get_transport_cls`` and ``_info`` of a
connection, ``new`` of a pool, and the class that an app's ``amqp`` names; ``_connparams`` of a
channel, its ``connection_class`` and ``connection_class_ssl``, and that a connection passes on its
``transport_options`` and ``ssl``; ``_on_collect`` of a QoS; ``cycle`` of a transport, its
``on_poll_start``, ``fds`` and ``_chan_to_sock``, and that ``register_with_event_loop`` of the
transport adds one callback to ``on_tick``.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from celery.app import amqp
from kombu import connection as kombu_connection
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps
from redis.exceptions import ConnectionError as RedisConnectionError

from bertq.protocol import time_to_live
from bertq.redis import sentinel
from bertq.redis.primary import Primary, PrimaryConnection, PrimaryTLSConnection
from bertq.state import queue_expiry

# kombu has no types, and its stubs omit private parts.
_KombuChannel: Any = kombu_redis.Channel
_KombuConnection: Any = kombu_connection.Connection
_KombuPooledConnection: Any = kombu_connection.PooledConnection
_KombuPool: Any = kombu_connection.ConnectionPool
_CeleryAMQP: Any = amqp.AMQP


#: Pauses between attempts to connect; kombu's grow to 30 s.
_PAUSES_SECONDS = {"interval_start": 1, "interval_step": 1, "interval_max": 3}

#: The transport option with the Sentinels of a connection.
_SENTINELS = "sentinels"


class ExpiringChannel(_KombuChannel):  # type: ignore[misc]
    """A channel to the primary that gives each key that it writes a time to live.

    Attributes:
        receivers: to how many processes Redis has sent the last broadcast; None if it failed.
    """

    connection_class = PrimaryConnection
    connection_class_ssl = PrimaryTLSConnection
    receivers: int | None = None

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._connparams(asynchronous)
        parameters["primary"] = self.connection.primary
        if sentinels := self.connection.client.transport_options.get(_SENTINELS):
            parameters["sentinels"] = sentinels
        return parameters

    def _receive_one(self, c: Any) -> Any:
        if c.connection.is_stale:
            # redis-py would connect again without the subscriptions, and wait forever.
            raise RedisConnectionError("Redis has another primary")
        return super()._receive_one(c)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **options: Any) -> None:
        if options.get("_publish_batch") is not None:
            super()._put_fanout(exchange, message, routing_key, **options)
            return
        self.receivers = None
        text = dumps(message)
        with self.conn_or_acquire() as client:
            topics = self._get_publish_topics(exchange, routing_key)
            self.receivers = sum(client.publish(topic, text) for topic in topics)

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        super()._put(queue, message, **options)
        if queue in self._expires:
            return  # kombu has set a shorter time
        name = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        batch = options.get("_publish_batch")
        if batch is not None:
            batch.add("expire", name, time_to_live.QUEUE_SECONDS, True)
            return
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            queue_expiry.extend(pipe, name)
            pipe.execute()

    def _do_restore_message(
        self, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)
        priority = self._get_message_priority(payload, reverse=False)
        for queue in self._lookup(exchange, routing_key):
            queue_expiry.extend(pipe, self._q_for_pri(queue, priority))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        super()._queue_bind(exchange, routing_key, pattern, queue)
        self._expire_bindings([exchange])

    def _refresh_bindings(self, queues: Iterable[str]) -> None:
        queues = list(queues)
        super()._refresh_bindings(queues)
        bindings = [binding for queue in queues for binding in self.state.queue_bindings(queue)]
        self._expire_bindings([exchange for exchange, _, _ in bindings])

    def _expire_bindings(self, exchanges: Iterable[str]) -> None:
        names = {self.keyprefix_binding_deadlines}
        for exchange in exchanges:
            names.add(self.keyprefix_queue % exchange)
            names.add(self.keyprefix_binding_permanent % exchange)
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for name in sorted(names):
                pipe.expire(name, time_to_live.QUEUE_SECONDS)
            pipe.execute()


class ExpiringTransport(kombu_redis.Transport):
    """The Redis transport of processes that only observe, and of a worker's producers.

    Attributes:
        primary: what the connections of all channels know.
    """

    Channel = ExpiringChannel

    def __init__(self, *args: Any, **options: Any) -> None:
        self.primary = Primary()
        self._unregister: Callable[[], object] = lambda: None
        super().__init__(*args, **options)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let the event loop read the sockets of the channels, until the connection is closed.

        kombu adds all sockets to the loop in each of its rounds. This adds them when they change,
        which saves system calls that hand the interpreter's lock to another thread.
        """
        others = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        loop.on_tick &= others
        cycle: Any = self.cycle
        added: list[Any] = []

        def start_round() -> None:
            cycle.on_poll_start()
            sockets = list(cycle._chan_to_sock.values())
            if sockets == added and loop.readers.keys() >= cycle.fds.keys():
                return
            added[:] = sockets
            for descriptor in cycle.fds:
                loop.add_reader(descriptor, self.on_readable, descriptor)

        loop.on_tick.add(start_round)
        self._unregister = partial(self._leave, loop, start_round)

    def close_connection(self, connection: Any) -> None:
        """Close the channels, leave the event loop, and need no closing at exit.

        kombu does neither of the last two if the connection is lost: a worker would keep the
        channels of all lost connections, and call them in every round of the loop.
        """
        self._unregister()
        channels: list[Any] = list(self.channels or ())
        try:
            super().close_connection(connection)
        finally:
            for channel in channels:
                channel.qos._on_collect.cancel()

    def _leave(self, loop: Any, callback_of_round: Callable[[], None]) -> None:
        loop.on_tick.discard(callback_of_round)
        for descriptor, (callback, _) in list(loop.readers.items()):
            if callback == self.on_readable:
                loop.remove(descriptor)


class _WithTransport:
    """A connection that uses ``ExpiringTransport`` instead of kombu's for Redis."""

    def get_transport_cls(self) -> Any:
        """Return the class of the transport."""
        parent: Any = super()
        found = parent.get_transport_cls()
        is_redis = found in (kombu_redis.Transport, kombu_redis.SentinelTransport)
        return ExpiringTransport if is_redis else found


class _PooledConnection(_WithTransport, _KombuPooledConnection):  # type: ignore[misc]
    """A connection in a pool."""


class _Pool(_KombuPool):  # type: ignore[misc]
    """A pool of such connections."""

    def new(self) -> _PooledConnection:
        return _PooledConnection(self, **dict(self.connection._info(resolve=False)))


class Connection(_WithTransport, _KombuConnection):  # type: ignore[misc]
    """A connection of the app.

    Args:
        hostname: as for kombu, or a URL of ``bertq.redis.sentinel``.
        options: as for kombu.
    """

    def __init__(self, hostname: Any = "localhost", *arguments: Any, **options: Any) -> None:
        if isinstance(hostname, str) and sentinel.is_url(hostname):
            service = sentinel.parse(hostname)
            hostname = service.kombu_url
            options["ssl"] = dict(service.tls) if service.tls is not None else False
            given = options.get("transport_options") or {}
            options["transport_options"] = {**given, _SENTINELS: service.sentinels}
        super().__init__(hostname, *arguments, **options)

    def as_uri(self, include_password: bool = False, **options: Any) -> str:
        """Return the URL, for logs; with a password only in kombu's form."""
        found = self.transport_options.get(_SENTINELS)
        if found is None or include_password:
            return str(super().as_uri(include_password, **options))
        return f"{sentinel.PLAIN}://{found}/{self.virtual_host or 0}"

    def info(self) -> dict[str, Any]:
        """Return the settings of the connection, which the remote control shows."""
        found = dict(super().info())
        found["transport_options"] = {
            name: value for name, value in self.transport_options.items() if name != _SENTINELS
        }
        return found

    def ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect, and try again until it succeeds; a failover takes seconds."""
        return super().ensure_connection(*arguments, **{**_PAUSES_SECONDS, **options})

    def Pool(self, limit: int | None = None, **options: Any) -> _Pool:
        """Return a pool of connections like this one."""
        return _Pool(self, limit, **options)


class AMQP(_CeleryAMQP):  # type: ignore[misc]
    """The part of the app that makes connections."""

    Connection = BrokerConnection = Connection
