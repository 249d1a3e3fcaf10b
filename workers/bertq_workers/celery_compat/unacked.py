"""The unacknowledged messages of a worker, noted in ``unacked`` as by kombu, in fewer steps.

- Messages taken in one command are written to ``unacked`` by one script, which also reads the
  records of their jobs. Celery gets the messages of small requests meanwhile. Acknowledgements are
  collected for a moment and sent together.
- Redis may refuse a write (it is full, or cannot write to its disk) after it has delivered a
  message, because BRPOP also works in a full Redis. The message cannot be returned then either. It
  is in memory only, and is written, acknowledged or returned once that is possible. kombu's class
  raises an error that ends the worker.

Relies on private parts of kombu 5.7 (the version is pinned; tests/workers/test_transport.py,
test_unacked.py and test_heartbeat.py check each): ``append``, ``ack``, ``reject``, ``can_consume``,
``restore_by_tag``, ``restore_visible`` and ``restore_unacked_once`` of the QoS, and which of them
raise if Redis refuses; ``unacked_index_key`` is a sorted set of tags by the time of delivery.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kombu.asynchronous import get_event_loop
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis import Redis, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from bertq.redis.outage import OutageLog, code
from bertq.state import jobs
from bertq.state.unacked_note import Note
from bertq_workers.celery_compat.shutdown import end_after_error, is_stopping

log = logging.getLogger("bertq.worker")

#: Acknowledgements to retain for another attempt: more than the chunks of a worker. If Redis never
#: accepts them, only the last ones are retained.
_MAX_UNSENT_ACKS = 1000

#: Time for which acknowledgements are collected before they are sent together, and their maximum
#: number. If the worker dies before, the chunks are delivered again, and dropped: their jobs are
#: over.
_ACK_DELAY_SECONDS, _MAX_COLLECTED_ACKS = 0.05, 64


class OutageLogs:
    """The logs of refused commands, for all channels of a connection."""

    def __init__(self) -> None:
        self.deliveries = OutageLog(log, "no chunks can be taken")
        self.notes = OutageLog(log, "new chunks are in the memory of this worker only")
        self.acknowledgements = OutageLog(log, "answered chunks cannot be acknowledged")
        self.returns = OutageLog(log, "chunks cannot be returned to their queue")
        self.restores = OutageLog(log, "chunks of dead workers cannot be delivered again")
        self.bindings = OutageLog(log, "bindings of queues cannot be renewed")


class QoS(kombu_redis.QoS):
    """The unacknowledged messages of a channel.

    All methods except ``tags`` and ``renew`` must be called on the thread of the event loop.

    Attributes:
        retry_seconds: time between two attempts of a command that Redis has refused.
        reads_records: whether ``write`` reads the records of jobs.
    """

    retry_seconds = 1.0
    reads_records = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Tags of messages that are in ``unacked`` before they are delivered.
        self.written: set[str] = set()
        self.channel: Any
        self._acked: list[str] = []
        # Commands that Redis has refused: acknowledgements, entries of ``unacked`` by their tags,
        # and tags of messages to return to their queue.
        self._unsent_acks: deque[str] = deque(maxlen=_MAX_UNSENT_ACKS)
        self._has_lost_acks = False
        self._unwritten: dict[str, str] = {}
        self._returning: dict[str, None] = {}
        self._connection: Any = None  # for notes that are written while messages are delivered
        self._is_note_sent = False  # its answer is the next one on that connection
        self._timer: Any = None
        self._ack_timer: Any = None
        self._paused_until = self._restore_after = self._flush_after = 0.0
        self._outages: OutageLogs = self.channel.connection.outages

    def can_consume(self) -> bool:
        """Return whether another message may be taken."""
        if self._returning or time.monotonic() < self._paused_until:
            return False
        return bool(super().can_consume())

    def record_refusal(self, error: ResponseError) -> None:
        """Record that Redis has refused to deliver messages, and pause."""
        self._outages.deliveries.failed(error, self)
        self._pause()

    def record_delivery(self) -> None:
        """Record that Redis has delivered messages, or has none."""
        self._outages.deliveries.succeeded(self)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that is delivered."""
        if delivery_tag not in self.written:
            place = message.delivery_info
            entry = dumps([message._raw, place["exchange"], place["routing_key"]])
            self.write({delivery_tag: entry})
        self.written.discard(delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, together with others from the same round of the event loop."""
        virtual.QoS.ack(self, delivery_tag)
        self._unwritten.pop(delivery_tag, None)
        self._acked.append(delivery_tag)
        loop = get_event_loop()
        # While the worker shuts down, the loop runs no timers, and the heartbeat does not renew
        # acknowledged messages: other workers would receive them.
        is_due = is_stopping() and time.monotonic() >= self._flush_after
        if loop is None or is_due or len(self._acked) >= _MAX_COLLECTED_ACKS:
            self.flush()
        elif self._ack_timer is None or self._ack_timer.canceled:
            self._ack_timer = loop.call_later(_ACK_DELAY_SECONDS, self._on_ack_timer)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Return a message to its queue, or drop it.

        If the connection is lost, closing the channel returns it.
        """
        if not requeue:
            self.ack(delivery_tag)
            return
        self._returning[delivery_tag] = None
        try:
            self._run_refused()
        except self.channel.connection_errors:
            del self._returning[delivery_tag]  # Celery would log the error with its traceback

    def flush(self, *, is_closing: bool = False) -> None:
        """Send the acknowledgements to Redis.

        Args:
            is_closing: whether the channel is being closed: there is no later attempt.
        """
        self._unsent_acks.extend(self._acked)
        self._acked.clear()
        if not self._unsent_acks:
            return
        try:
            # A transaction would cost two more commands.
            with self.channel._create_client().pipeline(transaction=False) as pipe:
                # If only the first is done, kombu removes the tags without messages.
                pipe.hdel(self.unacked_key, *self._unsent_acks)
                pipe.zrem(self.unacked_index_key, *self._unsent_acks)
                pipe.execute()
        except self.channel.connection_errors as error:
            if is_stopping() and not is_closing:
                # Redis may be back later. Each attempt may wait for it.
                self._flush_after = time.monotonic() + self.retry_seconds
                return
            # The chunks are delivered again, and dropped if their job is over. The channel will be
            # replaced, so one line is enough.
            if not self._has_lost_acks:
                name = type(error).__name__
                log.warning("answered chunks could not be acknowledged: %s", name)
            self._has_lost_acks = True
        except ResponseError as error:
            self._outages.acknowledgements.failed(error, self)
            self._retry_later()
            return
        else:
            self._outages.acknowledgements.succeeded(self)
        self._unsent_acks.clear()

    def write(
        self, entries: dict[str, str], meanwhile: Callable[[], object] = lambda: None
    ) -> dict[str, jobs.JobRecord]:
        """Write messages to ``unacked``, by their tags.

        If Redis refuses, they are written later.

        Args:
            entries: the messages.
            meanwhile: delivers the messages; called in any case, unless the connection is lost
                before Redis has the messages. Those of small requests are delivered while Redis
                writes: their chunks are not begun before this function returns.

        Returns:
            By tag, the records of the jobs of the messages that were written.
        """
        if not self.reads_records or self._unwritten or self._returning or self._is_note_sent:
            records = self._write_now(entries)
            meanwhile()
            return records
        self._unwritten.update(entries)
        note = self._build_note()
        try:
            if self._connection is not None and self._connection.is_stale:
                raise RedisConnectionError("Redis has another primary")
            if self._connection is None:
                self._connection = self.channel.pool.get_connection()
            self._connection.send_command(*note.command)
        except BaseException:
            self._lose_note()
            raise
        self.written.update(entries)
        self._is_note_sent = True
        try:
            meanwhile()
        finally:
            self._is_note_sent = False
            records = self._read_records(note)
        return records

    def _write_now(self, entries: dict[str, str]) -> dict[str, jobs.JobRecord]:
        self._unwritten.update(entries)
        records: dict[str, jobs.JobRecord] = {}
        try:
            records = self._run_refused()
        except self.channel.connection_errors:
            # The messages are not delivered; their client will notice and send them again.
            for tag in entries:
                self._unwritten.pop(tag, None)
            raise
        if self._unwritten:
            self._pause()  # messages in memory are lost with the worker: take no more
        self.written.update(entries)
        return records

    def _read_records(self, note: Note) -> dict[str, jobs.JobRecord]:
        """Wait until a note is written, and return the records."""
        try:
            answers = self._connection.read_response()
        except ResponseError:  # perhaps the server only does not know the script
            return self._write_now({})
        except BaseException:
            self._lose_note()
            raise
        self._finish_note()
        return note.records(answers)

    def tags(self) -> list[str]:
        """Return the tags of the messages in the worker; safe to call on any thread."""
        # Each copy is atomic in the interpreter, even while the loop's thread changes the original.
        return [*self.written, *(self._delivered or ())]

    def renew(self, redis: Redis) -> None:
        """Set the delivery time of the messages to now, unless they were acknowledged.

        Safe to call on any thread.
        """
        if tags := self.tags():
            redis.zadd(self.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Return messages of other workers to their queues if they were not renewed in time."""
        if time.monotonic() < self._restore_after:
            return
        try:
            super().restore_visible(*args, **options)
        except ResponseError as error:
            self._outages.restores.failed(error, self)
            # Redis could not store heartbeats either; give the living workers time to renew first.
            self._restore_after = time.monotonic() + self.visibility_timeout / 2
        else:
            self._outages.restores.succeeded(self)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Return a message to its queue; drop it if it is not a message.

        kombu would raise each time, and never return the messages of dead workers behind it.
        """
        try:
            super().restore_by_tag(tag, client, leftmost)
        except (ValueError, TypeError, RecursionError) as error:
            log.error("dropped an entry of unacked: %s", type(error).__name__)
            kombu_qos: Any = self
            kombu_qos._remove_from_indices(tag).execute()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Return all unacknowledged messages to their queues, because the channel is closed."""
        self.flush(is_closing=True)
        try:
            self._write_notes()
            super().restore_unacked_once(stderr)
        except (ResponseError, *self.channel.connection_errors) as error:
            if not isinstance(error, ResponseError) and not is_stopping():
                raise  # the worker connects again, and finishes its chunks
            delivered: Any = self._delivered
            if delivered:
                log.warning(
                    "%d chunks could not be returned (%s); other workers receive them after %g s",
                    len(delivered), code(error), self.visibility_timeout,
                )  # fmt: skip
            delivered.clear()
        finally:
            self._lose_note()
            self._returning.clear()

    def _run_refused(self) -> dict[str, jobs.JobRecord]:
        """Run the commands that Redis has refused, or schedule another attempt.

        Returns:
            As ``write``.
        """
        try:
            records = self._write_notes()
        except ResponseError as error:
            self._outages.notes.failed(error, self)
            self._retry_later()
            return {}  # only messages in ``unacked`` can be returned
        try:
            for tag in list(self._returning):
                self.restore_by_tag(tag, leftmost=True)
                virtual.QoS.ack(self, tag)
                del self._returning[tag]
                self._outages.returns.succeeded(self)
        except ResponseError as error:
            self._outages.returns.failed(error, self)
            self._retry_later()
        return records

    def _write_notes(self) -> dict[str, jobs.JobRecord]:
        if not self._unwritten:
            return {}
        records = self._build_note().write(self.channel._create_client())
        self._finish_note()
        return records

    def _build_note(self) -> Note:
        return Note.of(
            self._unwritten,
            self.unacked_key,
            self.unacked_index_key,
            reads_records=self.reads_records,
        )

    def _finish_note(self) -> None:
        self._unwritten.clear()
        self._outages.notes.succeeded(self)

    def _lose_note(self) -> None:
        """Forget messages that could not be written: their client will notice and send them again.

        The connection may still receive the answer of Redis.
        """
        self._unwritten.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + self.retry_seconds

    def _retry_later(self) -> None:
        loop = get_event_loop()
        # Without a loop, the next acknowledgement or the closing of the channel tries again. A lost
        # connection cancels timers.
        if loop is not None and (self._timer is None or self._timer.canceled):
            self._timer = loop.call_later(self.retry_seconds, self._on_timer)

    def _on_ack_timer(self) -> None:
        self._ack_timer = None
        try:
            self.flush()
        except Exception as error:
            end_after_error("sending acknowledgements", error)  # the loop would continue

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self.flush()
            self._run_refused()
        except self.channel.connection_errors:
            self._retry_later()  # the loop notices the lost connection and reconnects
        except Exception as error:
            # The loop would log it and continue, without another attempt.
            end_after_error("a retry of refused commands", error)
