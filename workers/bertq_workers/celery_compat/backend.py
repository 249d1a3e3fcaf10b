"""Result backend: stores each result once, with a notice on the client's reply stream.

Celery's own Redis backend reads the old value, then writes and publishes the whole payload, and the
client subscribes to one channel per task. This backend writes the payload once, under Celery's
usual key; the client reads one stream of task ids, which also contains small results.

Relies on private parts of celery 5.7 (the version is pinned, and tests/kernel/test_backend.py
checks each): ``_store_result``, ``_get_result_meta``, ``prepare_exception``, ``prepare_value``,
``on_task_call``, ``exception_safe_to_retry`` and ``expires`` of the key-value backends.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery.backends.redis import RedisBackend
from celery.exceptions import Reject
from celery.states import SUCCESS
from celery.utils.serialization import UnpickleableExceptionWrapper
from redis import RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bertq.errors import SentenceTooLong, WireError
from bertq.protocol import keys
from bertq.protocol.wire import MAX_PAYLOAD_BYTES, ChunkResult
from bertq.redis.outage import OutageLog, refuses_writes
from bertq.state import durable_jobs

log = logging.getLogger("bertq.worker")

_MAX_MESSAGE = 500

#: Maximum bytes of a result that is copied into the notice, to save the client a round trip.
SMALL_RESULT = 64 * 1024

#: Seconds between two attempts to store a result that Redis refuses: the first and the longest
#: pause.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

#: Attempts of a stopping worker, after which the chunk is returned to its queue.
_LAST_TRIES = 5


class ReplyBackend(RedisBackend):
    """Redis backend that sends notices to the stream named by a task's ``reply_to``."""

    expires: int
    _get_result_meta: Callable[..., dict[str, Any]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._storing = OutageLog(log, "results cannot be stored")
        #: Called with the seconds that storing a result took.
        self.stored: Callable[[float], object] = lambda seconds: None

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do nothing; the stock backend subscribes to the task's channel here."""

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
        told: dict[str, Any] = {
            "exc_type": type_name(exc),
            "exc_message": [summarize(exc)],
            "exc_module": type(exc).__module__,
        }
        if isinstance(exc, SentenceTooLong):
            told |= {"rows": list(exc.rows), "max_seq_len": exc.max_seq_len}
        return told

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        began = time.perf_counter()
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
            self._write_at_last(task_id, payload, state, request)
        except ResponseError as error:
            if state == SUCCESS or self.exception_safe_to_retry(error):
                raise  # the tracer stores the failure instead, or retries
            # The failure cannot be stored either, but the worker must continue.
            log.error("the result of chunk %s cannot be stored: %s", task_id, summarize(error))
            return result
        self.stored(time.perf_counter() - began)
        return result

    def _write_at_last(self, task_id: str, payload: bytes, state: str, request: Any) -> None:
        """Write a result; on a thread of the pool, wait while Redis is away or refuses writes.

        There is no time limit: the chunk stays in the worker, which takes fewer others, and it
        could not be returned to its queue either. Celery's own retries would log a traceback each
        time.

        Raises:
            Reject: the worker is stopping.
            RedisError: Redis refuses the result for another reason, or this is the main thread.
        """
        pause, left = _FIRST_PAUSE, _LAST_TRIES
        while True:
            try:
                self._write(task_id, payload, state, request)
            except RedisError as error:
                away = isinstance(error, RedisConnectionError | RedisTimeoutError)
                if not (away or refuses_writes(error)) or not _may_wait():
                    raise
                self._storing.failed(error)
            else:
                self._storing.succeeded()
                return
            left -= _is_stopping()
            if not left:
                raise Reject("the worker stops, and Redis takes no results", requeue=True)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _write(self, task_id: str, payload: bytes, state: str, request: Any) -> None:
        reply_to = getattr(request, "reply_to", None)
        if durable_jobs.is_durable(task_id, reply_to) and state in self.READY_STATES:
            queue = request.delivery_info["routing_key"]
            durable_jobs.finish(self.client, task_id, payload, queue=queue, failed=state != SUCCESS)
            return
        with self.client.pipeline() as pipe:
            pipe.set(self.get_key_for_task(task_id), payload, ex=self.expires)
            if reply_to and state in self.READY_STATES:
                pipe.xadd(keys.reply(reply_to), notice(task_id, payload))
                pipe.expire(keys.reply(reply_to), self.expires)
            pipe.execute()


def _may_wait() -> bool:
    # The main thread of a worker runs its event loop; in other processes it is the caller's.
    return threading.current_thread() is not threading.main_thread()


def _is_stopping() -> bool:
    from celery.worker import state as worker  # imported late: other processes do not need it

    # These flags are exit statuses in celery 5.7, 0 included, or None, or False (the version is
    # pinned, and tests/kernel/test_backend.py checks it).
    flags = (worker.should_stop, worker.should_terminate)
    return any(flag is not None and flag is not False for flag in flags)


def notice(task_id: str, payload: bytes) -> dict[Any, Any]:
    """Return the entry for the reply stream that announces a stored result.

    It includes a small result, so that the client need not fetch it.
    """
    entry: dict[Any, Any] = {"task": task_id}
    if len(payload) <= SMALL_RESULT:
        entry["result"] = payload
    return entry


def type_name(error: BaseException) -> str:
    """Return the name of an error's class; of the original class if Celery has wrapped it."""
    if isinstance(error, UnpickleableExceptionWrapper):
        return str(error.exc_cls_name)
    return type(error).__name__


def summarize(error: BaseException) -> str:
    """Return an error's message as one line of limited length."""
    whole = str(error)
    if isinstance(error, UnpickleableExceptionWrapper):
        whole = ", ".join(map(str, error.exc_args or ()))
    text = " ".join(whole.split())
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "..."
