"""kombu's Redis transport for a worker: the same keys and messages, in fewer steps.

The cost of kombu's transport for each message limits how many small requests a worker can take, and
its time is lost to the threads of the chunks. The differences are:

- several small messages are taken in one command, and the records of their jobs are read with the
  note;
- a channel has one client, while kombu makes a new one for each command;
- unacknowledged messages are noted in fewer steps (see ``unacked``).

If Redis refuses to deliver messages (it cannot write to its disk), this transport retries after a
pause. kombu's channel raises an error that ends the worker. If Redis has become a replica, or
another connection has reached another primary, the worker connects again.

Relies on private parts of kombu 5.7 (the version is pinned, and tests/workers/test_transport.py
checks each): ``_create_client``, ``_brpop_start``, ``_brpop_read``, ``_receive_one``,
``_deliver_fanout_message``, ``_do_restore_message``, ``maybe_refresh_binding_expiry`` and
``_in_poll`` of a channel; that the poller calls ``can_consume`` before each BRPOP; the form of an
entry of ``unacked``.
"""

import logging
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

from redis import ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from bertq.protocol import keys
from bertq.redis.outage import refuses_writes
from bertq.state.jobs import JobRecord
from bertq_workers.celery_compat import message_parsing
from bertq_workers.celery_compat.expiry import ExpiringChannel, ExpiringTransport
from bertq_workers.celery_compat.unacked import OutageLogs, QoS

log = logging.getLogger("bertq.worker")


class Channel(ExpiringChannel):
    """A channel that can take several messages at once.

    Attributes:
        max_messages: returns how many messages the next command may take.
        on_deliver: called before the messages of one command are delivered.
        on_delivered: called after the messages of one command are delivered, with the records of
            their jobs by delivery tag.
    """

    QoS = QoS
    Message = message_parsing.Message

    def __init__(self, *args: Any, **options: Any) -> None:
        self.max_messages: Callable[[], int] = lambda: 1
        self.on_deliver: Callable[[], object] = lambda: None
        self.on_delivered: Callable[[dict[str, JobRecord]], object] = lambda records: None
        self._client: Any = None
        self._command = "BRPOP"
        self._knows_blmpop: bool | None = None
        super().__init__(*args, **options)

    def _create_client(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            # kombu closes a channel once more after it has given up a lost connection; that would
            # end the worker. The chunks of the channel are finished, and delivered again after a
            # while.
            raise RedisConnectionError("the connection is closed")
        if asynchronous:
            return super()._create_client(asynchronous=True)
        # When the pool is replaced, a new client is needed, for example to close a channel.
        if self._client is None or self._client.connection_pool is not self.pool:
            self._client = super()._create_client()
        return self._client

    def _brpop_start(self, timeout: float | None = None) -> None:
        try:
            self._send_pop(timeout)
        except ResponseError as error:
            # After a pause redis-py sends a PING first, which a Redis without its disk refuses.
            self._in_poll = None
            self.qos.record_refusal(error)

    def _send_pop(self, timeout: float | None) -> None:
        if self.connection.primary.changes or self.client.connection.is_stale:
            # Connect again, with all connections, and take the claims there.
            raise RedisConnectionError("Redis has another primary")
        count = self.max_messages()
        self._command = "BRPOP"
        if count < 2 or not self.active_queues or not self._can_use_blmpop():
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        names = [
            self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues
        ]
        self._command = "BLMPOP"
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        wait = (self.brpop_timeout if timeout is None else timeout) or 0
        self.client.connection.send_command(
            "BLMPOP", wait, len(names), *names, "RIGHT", "COUNT", count
        )

    def _brpop_read(self, **options: Any) -> Any:
        connection = self.client.connection
        try:
            try:
                answer = self.client.parse_response(connection, self._command, **options)
            except self.connection_errors:
                connection.disconnect()
                raise
            except ResponseError as error:
                self.qos.record_refusal(error)
                raise Empty() from None
            self.qos.record_delivery()
            if not answer:
                raise Empty()
            queue = answer[0].decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._deliver_all(queue, answer[1] if self._command == "BLMPOP" else [answer[1]])
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _receive_one(self, c: Any) -> Any:
        try:
            return super()._receive_one(c)
        except ResponseError:
            # The answer to a PING, as in ``_brpop_start``; kombu reconnects if that continues.
            raise Empty() from None
        except RecursionError:
            log.error("refused a broadcast: it is not JSON (RecursionError)")
            return False

    def _deliver_fanout_message(self, message: Any, exchange: str) -> Any:
        try:
            message_parsing.check_envelope(message)
        except message_parsing.InvalidMessage as error:
            log.error("refused a broadcast: %s", error)
            return False
        return super()._deliver_fanout_message(message, exchange)

    def _do_restore_message(
        self, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        try:
            message_parsing.check_envelope(payload)
        except message_parsing.InvalidMessage as error:
            # kombu would log the whole message.
            log.error("dropped an entry of unacked: %s", error)
        else:
            super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)

    def maybe_refresh_binding_expiry(self) -> None:
        """Renew the binding of the remote control's queue; kombu calls this each second."""
        if self._in_poll and self._in_poll.is_stale:
            self._in_poll.disconnect()  # the old primary may never answer
        outage = self.connection.outages.bindings
        try:
            super().maybe_refresh_binding_expiry()
        except ResponseError as error:
            outage.failed(error, self)  # kombu would log a traceback, each second
        else:
            outage.succeeded(self)

    def _deliver_all(self, queue: str, texts: list[bytes]) -> None:
        messages: dict[str, Any] = {}
        entries: dict[str, str] = {}
        for text in texts:
            try:
                message, entry = message_parsing.parse_envelope(text, queue)
            except message_parsing.InvalidMessage as error:
                log.error("refused a message of %d bytes: %s", len(text), error)
            else:
                # A chunk may be there twice: returned by a worker, and sent again by its client.
                # ``unacked`` has one entry for both, and redeliveries are counted.
                tag = message["properties"]["delivery_tag"]
                if tag not in messages or message["properties"]["delivery_info"]["redelivered"]:
                    messages[tag], entries[tag] = message, entry
        if not entries:
            return

        def deliver() -> None:
            self.on_deliver()
            for message in messages.values():
                self.connection._deliver(message, queue)

        records: dict[str, JobRecord] = {}
        try:
            records = self.qos.write(entries, deliver)
        finally:
            self.on_delivered(records)

    def _can_use_blmpop(self) -> bool:
        if self._knows_blmpop is None:
            try:
                # Redis 7 and Valkey have BLMPOP, and the user may lack the permission for it.
                self._create_client().execute_command(
                    "BLMPOP", 0.001, 1, keys.MISSING_LIST, "RIGHT"
                )
            except ResponseError as error:
                if refuses_writes(error):
                    return False  # it may still have BLMPOP
                self._knows_blmpop = False
            else:
                self._knows_blmpop = True
        return self._knows_blmpop


class Transport(ExpiringTransport):
    """The transport of a worker's consumer."""

    Channel = Channel

    def __init__(self, *args: Any, **options: Any) -> None:
        self.outages = OutageLogs()
        super().__init__(*args, **options)
