"""kombu's Redis transport for a worker: the same keys and messages, in fewer steps.

What the stock one costs for each message bounds how many small requests a worker can take in, and
the time is taken from the threads of the chunks. So here

- several small messages are taken in one command, and written to ``unacked`` in one;
- what is acknowledged in one round of the event loop is acknowledged in one command;
- a channel has one client, where kombu makes a new one for each command.

Relies on the inside of kombu 5.7 (the version is pinned, and tests/workers/test_transport.py looks
at each): ``_create_client``, ``_brpop_start`` and ``_brpop_read`` of a channel; ``append``, ``ack``
and ``restore_unacked_once`` of its QoS; the form of an entry of ``unacked``.
"""

import json
import logging
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

from kombu.asynchronous import get_event_loop
from kombu.transport import redis as stock
from kombu.transport import virtual
from redis import ResponseError

log = logging.getLogger("bertq.worker")

# kombu has no types, and the stubs of it not the inside.
_StockChannel: Any = stock.Channel


class QoS(stock.QoS):
    """The messages of a channel that are not acknowledged."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: tags of messages that are in ``unacked`` before they are delivered
        self.written: set[str] = set()
        self.channel: Any
        self._acked: list[str] = []

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that is delivered."""
        if delivery_tag in self.written:
            self.written.discard(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, with those that follow in the same round of the event loop."""
        virtual.QoS.ack(self, delivery_tag)
        self._acked.append(delivery_tag)
        if len(self._acked) > 1:
            return
        loop = get_event_loop()
        if loop is None:
            self.flush()
        else:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Tell Redis what is acknowledged."""
        tags, self._acked = self._acked, []
        if not tags:
            return
        try:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *tags)
                pipe.hdel(self.unacked_key, *tags)
                pipe.execute()
        except self.channel.connection_errors as error:
            # They are delivered again, and dropped where their job is over.
            log.warning("%d chunks could not be acknowledged: %s", len(tags), type(error).__name__)

    def write(self, entries: dict[str, str]) -> None:
        """Write messages to ``unacked``, by their tags, before they are delivered."""
        now = time.time()
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, dict.fromkeys(entries, now))
            pipe.hset(self.unacked_key, mapping=entries)
            pipe.execute()
        self.written.update(entries)

    def held(self) -> list[str]:
        """Return the tags of what is in the worker; may be asked on any thread."""
        # Copying each is one step for the interpreter, whatever the loop's thread does meanwhile.
        return [*self.written, *(self._delivered or ())]

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back what is not acknowledged: the channel is closed."""
        self.flush()
        super().restore_unacked_once(stderr)


class Channel(_StockChannel):  # type: ignore[misc]
    """A channel that can take several messages at once.

    Attributes:
        at_once: says how many messages the next command may take.
    """

    QoS = QoS

    def __init__(self, *args: Any, **options: Any) -> None:
        self.at_once: Callable[[], int] = lambda: 1
        self._shared: Any = None
        self._taking_many = False
        self._can_take_many: bool | None = None
        super().__init__(*args, **options)

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        # After the pool is gone there is another one, as for the last words of a closed channel.
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()
        return self._shared

    def _brpop_start(self, timeout: float | None = None) -> None:
        count = self.at_once()
        queues = self._queue_cycle.consume(len(self.active_queues))
        if count < 2 or not queues or not self._knows_blmpop():
            super()._brpop_start(timeout)
            return
        names = [
            self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues
        ]
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        self._taking_many = True
        wait = (self.brpop_timeout if timeout is None else timeout) or 0
        self.client.connection.send_command(
            "BLMPOP", wait, len(names), *names, "RIGHT", "COUNT", count
        )

    def _brpop_read(self, **options: Any) -> Any:
        if not self._taking_many:
            return super()._brpop_read(**options)
        connection = self.client.connection
        try:
            try:
                answer = self.client.parse_response(connection, "BLMPOP", **options)
            except self.connection_errors:
                connection.disconnect()
                raise
            if not answer:
                raise Empty()
            queue = answer[0].decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._deliver_all(queue, answer[1])
            return True
        finally:
            self._taking_many = False
            self._in_poll = None
            self._flush_brpop_reauth()

    def _deliver_all(self, queue: str, texts: list[bytes]) -> None:
        messages: list[Any] = []
        entries: dict[str, str] = {}
        for text in texts:
            try:
                message = json.loads(text)
                tag = message["properties"]["delivery_tag"]
                place = message["properties"]["delivery_info"]
                entries[tag] = (
                    f"[{text.decode()}, {json.dumps(place['exchange'])}, "
                    f"{json.dumps(place['routing_key'])}]"
                )
            except (ValueError, TypeError, LookupError) as error:
                log.error("refused a message: it is not kombu's (%s)", type(error).__name__)
            else:
                messages.append(message)
        if entries:
            self.qos.write(entries)
        for message in messages:
            self.connection._deliver(message, queue)

    def _knows_blmpop(self) -> bool:
        if self._can_take_many is None:
            try:
                # Redis 7, Valkey; and the user may call it.
                self._create_client().execute_command("BLMPOP", 0.001, 1, "bertq:none", "RIGHT")
            except ResponseError:
                self._can_take_many = False
            else:
                self._can_take_many = True
        return self._can_take_many


class Transport(stock.Transport):
    """What a worker's consumer takes chunks from."""

    Channel = Channel
