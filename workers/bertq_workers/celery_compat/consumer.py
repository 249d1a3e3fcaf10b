"""Celery's consumer, without message bodies in the log and without gossip.

Relies on private parts of celery 5.7 (the version is pinned, and tests/workers/test_consumer.py
checks them):

- Celery's class logs the body of a message that it cannot use in ``on_unknown_message``,
  ``on_unknown_task``, ``on_invalid_task`` and ``on_decode_error``. Bodies are sentences of users.
- ``on_send_event_buffered`` is called when an event of a task is waiting to be sent.
- ``connection_for_read`` is called for the connection that receives chunks, and ``call_soon_ack``
  to acknowledge.
- ``on_connection_error_before_connected`` and ``on_connection_error_after_connected`` are called
  for each of ``connection_errors``, before the consumer starts again.
- ``add_task_queue`` and ``cancel_task_queue`` are called by remote control.
"""

import logging
import os
import re
import time
from contextlib import suppress
from typing import Any

from celery import signals
from celery.app.task import Context
from celery.states import FAILURE
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown
from kombu.exceptions import ContentDisallowed
from redis import RedisError, ResponseError
from redis.exceptions import NoPermissionError

from bertq.protocol import keys, queues
from bertq.redis.connection import connect, explain, is_cluster_error
from bertq.redis.outage import OutageLog, refuses_writes
from bertq.redis.primary import ReadOnlyServer
from bertq.redis.retry import call_with_retries
from bertq_workers.celery_compat import message_parsing
from bertq_workers.celery_compat.message_parsing import InvalidMessage, UnknownTask
from bertq_workers.celery_compat.shutdown import end_worker
from bertq_workers.celery_compat.transport import Transport

log = logging.getLogger("bertq.worker")


#: Time for which events of tasks are collected before they are sent together. Celery's consumer
#: sends them in each round of its loop, which costs as much as receiving the chunk.
_EVENTS_DELAY_SECONDS = 0.1

#: Time between two checks whether Redis accepts writes again.
_CHECK_SECONDS = 1.0

_CONTENT_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,30}/[A-Za-z0-9.+-]{1,40}")


class RefusedMessage(Exception):
    """A message is not a chunk that this worker can read."""


class Consumer(CeleryConsumer):
    """Celery's consumer; logs the kind and size of a refused message on one line.

    Attributes:
        small_consumer: kombu's consumer of the queue of small requests, which has a channel of its
            own; None without one. Set by ``Intake``.
    """

    connection_errors: tuple[type[BaseException], ...]  # set by Celery's class
    event_dispatcher: Any
    small_consumer: Any = None

    def __init__(self, *args: Any, **options: Any) -> None:
        # Workers of bertq do not need each other's messages. As with --without-gossip and
        # --without-mingle, they start a second sooner, do not read all events of all others, and
        # avoid an error of gossip when Redis restarts.
        super().__init__(*args, **{**options, "without_gossip": True, "without_mingle": True})
        # A refusal by a full Redis does not end the worker; the consumer runs the failed steps
        # again.
        self.connection_errors = (*self.connection_errors, ResponseError)
        self._refused = OutageLog(log, "this worker waits until it can connect again")
        self._events_timer: Any = None

    def connection_for_read(self, heartbeat: Any = None) -> Any:
        """Connect to the broker with the transport that takes several messages at once."""
        connection: Any = self.app.connection_for_read(heartbeat=heartbeat)
        connection.get_transport_cls = lambda: Transport
        return self.ensure_connected(connection)

    def on_connection_error_before_connected(self, exc: Any) -> None:
        """Log that Redis cannot be reached; if it refuses a command, wait until it accepts writes.

        A missing permission and Redis Cluster end the worker, because waiting would not help.
        """
        if isinstance(exc, ResponseError | ReadOnlyServer):
            self._wait(exc)
        else:
            super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Any) -> None:
        """Close the connection, and proceed as in ``on_connection_error_before_connected``."""
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, ResponseError | ReadOnlyServer):
            self._wait(exc)

    def _wait(self, error: RedisError) -> None:
        url = str(self.app.conf.broker_url)
        if isinstance(error, NoPermissionError) or is_cluster_error(error):
            end_worker(str(explain(error, url).error), os.EX_CONFIG)
            return
        self._refused.failed(error)
        time.sleep(_CHECK_SECONDS)
        with connect(url) as redis, suppress(RedisError):  # connecting will raise it again
            call_with_retries(
                lambda: redis.set(keys.PROBE, "", ex=1),
                lambda probe: None if refuses_writes(probe) else probe,
                check=maybe_shutdown,
                first_pause_seconds=_CHECK_SECONDS,
                longest_pause_seconds=_CHECK_SECONDS,
            )
            self._refused.succeeded()

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Acknowledge or reject a message now; the pool calls this on the loop's thread."""
        # The transport collects acknowledgements and sends them before the loop waits again.
        # Celery's method defers to the loop's next round; in an idle worker that takes a second.
        p(*args, **kwargs)
        return p

    def on_send_event_buffered(self) -> Any:
        """Send the events of tasks after a short delay, together with those that follow."""
        # A lost connection cancels timers.
        if self._events_timer is None or self._events_timer.canceled:
            self._events_timer = self.timer.call_after(_EVENTS_DELAY_SECONDS, self._send_events)

    def shutdown(self) -> None:
        """Send the last events, and close the connections."""
        self._send_events()
        super().shutdown()

    def _send_events(self) -> None:
        self._events_timer = None
        if self.event_dispatcher:
            self.event_dispatcher.flush()

    def add_task_queue(self, queue: Any, *args: Any, **options: Any) -> Any:
        """Take messages from another queue; that of small requests on its own channel."""
        known = self.app.amqp.queues
        if self.small_consumer is None or queue not in known or not queues.is_small(queue):
            return super().add_task_queue(queue, *args, **options)
        if not self.small_consumer.consuming_from(queue):
            known.select_add(known[queue])
            self.small_consumer.add_queue(known[queue])
            self.small_consumer.consume()
        return known[queue]

    def cancel_task_queue(self, queue: Any) -> None:
        """Take no more messages from a queue."""
        super().cancel_task_queue(queue)
        if self.small_consumer is not None:
            self.small_consumer.cancel_by_queue(queue)

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """Return the handler of messages; only messages of chunks reach Celery's handler."""
        handle: Any = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:
            try:
                message_parsing.check(message)
            except UnknownTask as error:
                self.on_unknown_task(None, message, error)
            except InvalidMessage as error:
                self._refuse(message, str(error), error)
            except ContentDisallowed as error:
                self.on_invalid_task(None, message, error)
            except Exception as error:
                # Decoding the body calls other libraries.
                self.on_decode_error(message, error)
            else:
                handle(message)

        return on_message

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Reject a message that is not a task."""
        self._refuse(message, "it is not a Celery task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Reject a task with an unknown name."""
        self._refuse(message, "no task of that name is registered", exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Reject a malformed task, or one with a refused content type."""
        self._refuse(message, f"it is malformed ({type(exc).__name__})", exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Reject a message if its body cannot be decoded."""
        self._refuse(message, f"it cannot be decoded ({type(exc).__name__})", exc)

    def _refuse(self, message: Any, reason: str, exc: Exception | None = None) -> None:
        # Log the content type only if it looks like one; it may be anything, including a user's
        # text.
        content_type = str(message.content_type)
        if not _CONTENT_TYPE.fullmatch(content_type):
            content_type = "?"
        log.error(
            "refused a message of %d bytes, content type %r: %s",
            len(message.body or b""), content_type, reason,
        )  # fmt: skip
        message.reject_log_error(log, self.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=exc)
        self._answer(message, reason)

    def _answer(self, message: Any, reason: str) -> None:
        # Send an answer at once if the sender waits for one.
        headers = message.headers if isinstance(message.headers, dict) else {}
        reply_to = message.properties.get("reply_to")
        task_id = headers.get("id")
        if message_parsing.is_name(task_id) and message_parsing.is_name(reply_to):
            request = Context(
                id=task_id, reply_to=reply_to, delivery_info=message.delivery_info or {}
            )
            backend: Any = self.app.backend
            refused = backend.prepare_exception(RefusedMessage(reason))
            try:
                # Only one attempt: the loop's thread does not wait until Redis has memory.
                backend._store_result(task_id, refused, FAILURE, request=request)
            except Exception as error:  # names in a message must not end the worker
                log.debug("a refusal could not be answered: %s", type(error).__name__)
