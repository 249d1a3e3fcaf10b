"""A thread that acts on Redis at intervals."""

import logging
from collections.abc import Callable

from redis import Redis, RedisError

from bertq.redis.connection import connect
from bertq.redis.outage import code
from bertq_workers.background.wakeup import WakeUp
from bertq_workers.background.worker_thread import WorkerThread
from bertq_workers.celery_compat.shutdown import end_after_error

log = logging.getLogger("bertq.worker")


class RedisThread:
    """Calls a function at intervals, with a connection of its own, until it is stopped.

    Celery's timers run on the thread of its event loop. That thread is blocked during a reconnect
    to the broker, and during a shutdown while the worker finishes its chunks.

    Args:
        name: name of the thread.
        url: address of Redis.
        action: called at once and at intervals. After an error of Redis or of the connection, the
            next call is made all the same. Any other error ends the worker.
        interval_seconds: time between two calls.
        failure: logged when a call fails, unless the call before it failed too.
        on_stop: called at the end, on the thread, also after an error.
        on_error: called with a description and an error that ends the thread; ends the worker.
    """

    def __init__(
        self,
        name: str,
        url: str,
        action: Callable[[Redis], object],
        *,
        interval_seconds: float,
        failure: str,
        on_stop: Callable[[Redis], object] = lambda redis: None,
        on_error: Callable[[str, BaseException], object] = end_after_error,
    ) -> None:
        self._url = url
        self._action = action
        self._interval_seconds = interval_seconds
        self._failure = failure
        self._on_stop = on_stop
        # A plain flag instead of an Event, because signal handlers set it.
        self._is_stopping = False
        self._wake_up = WakeUp()
        self._thread = WorkerThread(name, self._run, on_error)

    def start(self) -> None:
        """Start the thread; further calls have no effect."""
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Call the function now; does not wait, so signal handlers may call this."""
        self._wake_up.wake()

    def stop(self) -> None:
        """Have the thread end; does not wait, so signal handlers may call this."""
        self._is_stopping = True
        self._wake_up.wake()

    def join(self, timeout_seconds: float) -> None:
        """Wait until the thread has ended, for a bounded time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        with connect(self._url) as redis:
            try:
                self._call_at_intervals(redis)
            finally:
                self._on_stop(redis)

    def _call_at_intervals(self, redis: Redis) -> None:
        has_failed = False
        while not self._is_stopping:
            try:
                self._action(redis)
                has_failed = False
            except (RedisError, OSError) as error:
                if not has_failed:
                    log.warning("%s: %s", self._failure, code(error))
                has_failed = True
            self._wake_up.wait(self._interval_seconds)
