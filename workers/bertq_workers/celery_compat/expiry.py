"""A time to live for the keys of kombu: queues, replies to remote control, tables of bindings.

kombu gives none to most of its keys. Here, each key that a process of the app writes lives for a
day after the last write or, if workers serve the queue, after the last sign of a worker
(``bertq_workers.background.registration``). The tables of bindings are written again when a queue
is declared; bertq's own messages do not need them.

Relies on private parts of celery and kombu 5.7 (the versions are pinned, and
tests/workers/test_expiry.py checks each): ``_put``, ``_put_fanout``, ``_queue_bind``,
``_refresh_bindings`` and ``_do_restore_message`` of a channel, its names of keys and
``_get_publish_topics``, ``add`` of a batch; ``get_transport_cls`` and ``_info`` of a connection,
``new`` of a pool, and the class that an app's ``amqp`` names.
"""

from collections.abc import Iterable
from typing import Any

from celery.app import amqp
from kombu import connection as kombu_connection
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

from bertq.protocol import time_to_live
from bertq.state import queue_expiry

# kombu has no types, and its stubs omit private parts.
_KombuChannel: Any = kombu_redis.Channel
_KombuConnection: Any = kombu_connection.Connection
_KombuPooledConnection: Any = kombu_connection.PooledConnection
_KombuPool: Any = kombu_connection.ConnectionPool
_CeleryAMQP: Any = amqp.AMQP


class ExpiringChannel(_KombuChannel):  # type: ignore[misc]
    """A channel that gives each key that it writes a time to live.

    Attributes:
        receivers: to how many processes Redis has sent the last broadcast; None if it failed.
    """

    receivers: int | None = None

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
    """The Redis transport of processes that only observe, and of a worker's producers."""

    Channel = ExpiringChannel


class _WithTransport:
    """A connection that uses ``ExpiringTransport`` instead of kombu's for Redis."""

    def get_transport_cls(self) -> Any:
        """Return the class of the transport."""
        parent: Any = super()
        found = parent.get_transport_cls()
        return ExpiringTransport if found is kombu_redis.Transport else found


class _PooledConnection(_WithTransport, _KombuPooledConnection):  # type: ignore[misc]
    """A connection in a pool."""


class _Pool(_KombuPool):  # type: ignore[misc]
    """A pool of such connections."""

    def new(self) -> _PooledConnection:
        return _PooledConnection(self, **dict(self.connection._info(resolve=False)))


class Connection(_WithTransport, _KombuConnection):  # type: ignore[misc]
    """A connection of the app."""

    def Pool(self, limit: int | None = None, **options: Any) -> _Pool:
        """Return a pool of connections like this one."""
        return _Pool(self, limit, **options)


class AMQP(_CeleryAMQP):  # type: ignore[misc]
    """The part of the app that makes connections."""

    Connection = BrokerConnection = Connection
