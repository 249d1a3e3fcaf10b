"""Result backend: stores each result once, with a notice on the client's reply stream.

Celery's own Redis backend reads the old value, then writes and publishes the whole payload, and the
client subscribes to one channel per task. This backend writes a large payload once, under Celery's
usual key; the client reads one stream of task ids, which also contains small results. The results
of chunks that were computed together are stored in one round trip.

Relies on private parts of celery 5.7 (the version is pinned, and tests/kernel/test_backend.py
checks each): ``_store_result``, ``_get_result_meta``, ``prepare_exception``, ``prepare_value``,
``on_task_call``, ``exception_safe_to_retry`` and ``expires`` of the key-value backends;
``_create_client`` and ``url`` of the Redis backend.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery.backends.redis import RedisBackend
from celery.exceptions import Reject
from celery.states import SUCCESS
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bertq.errors import SentenceTooLong, WireError
from bertq.protocol.wire import MAX_PAYLOAD_BYTES, ChunkResult
from bertq.redis import redis_url
from bertq.redis.connection import connect
from bertq.redis.outage import OutageLog, refuses_writes
from bertq.redis.retry import call_with_retries
from bertq.state import results
from bertq.state.results import ComputedChunk, ResultWriter
from bertq_workers.celery_compat.failures import summarize, type_name

log = logging.getLogger("bertq.worker")


class ReplyBackend(RedisBackend):
    """Redis backend that sends notices to the stream named by a task's ``reply_to``.

    Attributes:
        on_stored: called with the seconds that storing a result took.
        first_pause_seconds, longest_pause_seconds: the pauses between two attempts to store a
            result that Redis refuses.
        max_seconds_when_stopping: how long a stopping worker tries to store a result that Redis
            does not accept, before it returns the chunk to its queue.
    """

    first_pause_seconds = 0.1
    longest_pause_seconds = 2.0
    max_seconds_when_stopping = 60.0

    app: Any
    expires: int
    _get_result_meta: Callable[..., dict[str, Any]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.url = str(self.app.conf.broker_url)
        self._storing = OutageLog(log, "results cannot be stored")
        self.on_stored: Callable[[float], object] = lambda seconds: None
        self._writer = ResultWriter(self.expires)

    def _create_client(self, **params: Any) -> Any:
        return connect(self.url)

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL, for logs."""
        return str(self.url) if include_password else redis_url.redact(self.url)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do nothing; Celery's backend subscribes to the task's channel here."""

    def prepare_value(self, result: Any) -> Any:
        """Convert a task's result for the serializer."""
        if isinstance(result, ChunkResult):
            return result.to_wire()
        return super().prepare_value(result)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Allow retries for a full or read-only Redis, as for a lost connection."""
        if isinstance(exc, OutOfMemoryError | ReadOnlyError):
            return True
        return bool(super().exception_safe_to_retry(exc))

    def prepare_exception(self, exc: Exception, serializer: str | None = None) -> Any:
        """Convert an error to its type name and one line of message, without its arguments."""
        if serializer == "pickle":
            # The tracer needs the exception itself, for its own report.
            return super().prepare_exception(exc, serializer)
        failure: dict[str, Any] = {
            "exc_type": type_name(exc),
            "exc_message": [summarize(exc)],
            "exc_module": type(exc).__module__,
        }
        if isinstance(exc, SentenceTooLong):
            failure |= {"rows": list(exc.rows), "max_seq_len": exc.max_seq_len}
        return failure

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        started = time.perf_counter()
        # The traceback stays in the worker: it is useless to a client, and may quote values.
        meta = self._get_result_meta(result=result, state=state, traceback=None, request=request)
        meta["task_id"] = task_id
        payload = self.encode(meta)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise WireError(
                f"the rows of the chunk take {len(payload)} bytes, a value in Redis at most "
                f"{MAX_PAYLOAD_BYTES}: encode fewer sentences at once"
            )
        try:
            self._call_until_accepted(lambda: self._write(task_id, payload, state, request))
        except ResponseError as error:
            if state == SUCCESS or self.exception_safe_to_retry(error):
                raise  # the tracer stores the failure instead, or retries
            # The failure cannot be stored either, but the worker must continue.
            log.error("the result of chunk %s cannot be stored: %s", task_id, summarize(error))
            return result
        self.on_stored(time.perf_counter() - started)
        return result

    def store_together(self, chunks: Sequence[ComputedChunk]) -> None:
        """Store and announce the results of chunks that were computed together.

        Raises:
            Reject: the worker is stopping, and Redis does not accept results.
            RedisError: Redis refuses the results for another reason than a lack of memory.
        """
        started = time.perf_counter()
        self._call_until_accepted(lambda: self._writer.store(self.client, chunks))
        seconds = time.perf_counter() - started
        for _ in chunks:
            self.on_stored(seconds)

    def _call_until_accepted(self, write: Callable[[], object]) -> None:
        """Write results; on a thread of the pool, wait while Redis is away or refuses writes.

        There is no time limit in a running worker: the chunk stays in it, so that it takes fewer
        others, and could not be returned to its queue either. Celery's own retries would log a
        traceback each time.

        Raises:
            Reject: the worker is stopping, and its time is over.
            RedisError: Redis refuses the result for another reason, or this is the main thread.
        """
        ends_at = math.inf

        def give_up(error: Exception) -> Exception | None:
            nonlocal ends_at
            is_away = isinstance(error, RedisConnectionError | RedisTimeoutError)
            if not (is_away or refuses_writes(error)) or not _may_wait():
                return error
            self._storing.failed(error)
            is_stopping, is_cold = _read_flags()
            if not is_stopping:
                return None
            ends_at = min(ends_at, time.monotonic() + self.max_seconds_when_stopping)
            if not is_cold and time.monotonic() < ends_at:
                return None
            return Reject("the worker stops, and Redis does not accept results", requeue=True)

        call_with_retries(
            write,
            give_up,
            first_pause_seconds=self.first_pause_seconds,
            longest_pause_seconds=self.longest_pause_seconds,
        )
        self._storing.succeeded()

    def _write(self, task_id: str, payload: bytes, state: str, request: Any) -> None:
        if state not in self.READY_STATES:
            self.client.set(self.get_key_for_task(task_id), payload, ex=self.expires)
            return
        results.store(
            self.client,
            task_id,
            payload,
            reply_to=getattr(request, "reply_to", None),
            queue=(getattr(request, "delivery_info", None) or {}).get("routing_key"),
            failed=state != SUCCESS,
            once=bool(getattr(request, "notice", False)),
            ttl=self.expires,
        )


def _may_wait() -> bool:
    # The main thread of a worker runs its event loop; in other processes it is the caller's.
    return threading.current_thread() is not threading.main_thread()


def _read_flags() -> tuple[bool, bool]:
    """Return whether the worker is shutting down, and whether in a cold shutdown."""
    # Imported late: other processes with this backend do not need Celery's worker.
    from bertq_workers.celery_compat import shutdown

    return shutdown.is_stopping(), shutdown.is_cold()
