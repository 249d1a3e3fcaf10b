"""The future of a request: a ``concurrent.futures.Future`` that can also be awaited."""

import asyncio
import logging
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertq.errors import TruncationWarning
from bertq_client import threads

log = logging.getLogger("bertq.client")

#: Most seconds of one wait of a caller. A signal that arrives just before a thread begins to wait
#: for a lock does not end the wait, so Ctrl-C would have no effect on a wait without a limit.
MAX_WAIT_SECONDS = 0.5

#: Modules that are not the caller's code, for the line of a warning.
_INTERNAL_MODULES = ("bertq_client.", "concurrent.futures", "asyncio.")


class Callbacks:
    """The thread that runs the callbacks of a client's futures, one after the other.

    It is not the gatherer's thread: a callback may call ``encode()``, which waits for that thread.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # signal handlers may close the client
        self._is_running = False
        self._is_closed = False

    def put(self, call: Callable[[], object]) -> None:
        """Run ``call`` after the queued ones; its exceptions are logged."""
        with self._lock:
            self._queue.put(call)
            if self._is_closed:
                self._queue.put(None)
            if not self._is_running or self._is_closed:
                self._start()

    def _start(self) -> None:
        try:
            threads.start(self._run, "callbacks")
        except RuntimeError as error:
            # Python 3.12 and later start no threads while the interpreter exits.
            log.warning("callbacks of bertq futures have to wait: %s", error)
        else:
            self._is_running = True

    def close(self) -> None:
        """End the thread after its queued calls; a later call gets a new thread."""
        with self._lock:
            if self._is_running and not self._is_closed:
                self._queue.put(None)
            self._is_closed = True

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                call()
            except BaseException:
                # SystemExit too: it would only end the callbacks of all futures.
                log.exception("a callback of a bertq future failed")
            del call  # otherwise its client cannot be collected before the next call


class Progress(NamedTuple):
    """The progress of a request, in sentences.

    Attributes:
        done: sentences with rows.
        total: all sentences of the request.
    """

    done: int
    total: int


class EncodeFuture(Future[Any]):
    """The future vectors of one request.

    It differs from ``concurrent.futures.Future`` in three ways: it can be awaited; ``cancel``
    works until the vectors have arrived, and tells the workers; callbacks run on a separate thread
    of the client, one at a time, in the order in which they become due.

    Attributes:
        number: number of the request within its client.
        tokens_read: with ``count_tokens``, once the future is done: number of tokens read of all
            sentences, special tokens included; else None.
        token_counts: with ``count_tokens``, once the future is done: the number of tokens read of
            each sentence; else None.
        fingerprint: fingerprint of the model that made the vectors, once the future is done; else
            empty. Vectors with different fingerprints cannot be compared.
        cut_rows: numbers of the truncated sentences in the request, in ascending order, once the
            future is done.
    """

    def __init__(
        self, callbacks: Callbacks, number: int, total: int, on_cancel: Callable[[], object]
    ) -> None:
        super().__init__()
        self.number = number
        self.tokens_read: int | None = None
        self.token_counts: NDArray[np.int64] | None = None
        self.fingerprint = ""
        self.cut_rows: tuple[int, ...] = ()
        self._total = total
        self._done = 0
        self._warning: str | None = None
        self._is_warning_suppressed = False
        self._callbacks_thread = callbacks
        self._on_cancel = on_cancel
        self._cancel_lock = threading.RLock()  # callbacks of other futures may cancel this one
        self._client: object = None

    def keep_alive(self, client: object) -> None:
        """Keep the client and its threads alive while the future is referenced."""
        self._client = client

    @property
    def cut(self) -> int:
        """Number of truncated sentences, once the future is done."""
        return len(self.cut_rows)

    @property
    def progress(self) -> Progress:
        """The progress of the request; rows arrive in chunks of up to 256."""
        finished = self.done() and not self.cancelled() and self.exception() is None
        return Progress(self._total if finished else self._done, self._total)

    def advance(self, done: int) -> None:
        """Set how many rows have arrived."""
        self._done = done

    def set_warning(self, message: str) -> None:
        """Set a warning that is shown once, when the caller takes the vectors."""
        self._warning = message

    def suppress_warning(self) -> None:
        """Do not show the warning: the owner of the future checks ``cut``."""
        self._is_warning_suppressed = True

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the vectors and return them.

        Args:
            timeout: seconds to wait here; the request continues afterwards.

        Raises:
            TimeoutError: the vectors have not arrived yet.
            Exception: the errors of ``BertClient.encode``.
        """
        if timeout is None:
            self._wait()
        value = super().result(timeout)
        self._warn()
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the vectors, and return the error of ``result``, or None.

        Args:
            timeout: seconds to wait here; the request continues afterwards.

        Raises:
            TimeoutError: the vectors have not arrived yet.
            CancelledError: the request was cancelled.
        """
        if timeout is None:
            self._wait()
        return super().exception(timeout)

    def _wait(self) -> None:
        """Wait until the future is done."""
        while not self.done():
            with suppress(TimeoutError, CancelledError):
                super().exception(MAX_WAIT_SECONDS)

    def _warn(self) -> None:
        message, self._warning = self._warning, None
        if message is not None and not self._is_warning_suppressed:
            warn_about_truncation(message)

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn(self)`` when the future is done, or soon if it already is."""
        super().add_done_callback(lambda done: self._callbacks_thread.put(lambda: fn(done)))

    def cancel(self) -> bool:
        """Cancel the request; workers drop the chunks that they have not begun.

        Returns:
            False if the future was already done.
        """
        with self._cancel_lock:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            # An executor does this when it starts the task. Without it, ``concurrent.futures.wait``
            # and ``as_completed`` do not notice the cancellation.
            self.set_running_or_notify_cancel()
        self._on_cancel()
        return True

    def abandon(self, error: BaseException) -> None:
        """Fail the future in a forked child; callbacks run and waiters wake only in the parent."""
        # A thread that exists only in the parent may have locked these.
        self._condition = threading.Condition()
        self._cancel_lock = threading.RLock()
        if not self.done():
            self._done_callbacks: list[Callable[[Future[Any]], object]] = []
            self._waiters = []
            self.set_exception(error)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in a coroutine; cancelling the awaiting task cancels the request."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Any] = loop.create_future()

        def finish() -> None:
            if waiter.done():
                return
            if self.cancelled():
                waiter.cancel()
            elif (error := self.exception()) is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(super(EncodeFuture, self).result())

        def wake(_: Future[Any]) -> None:
            # Runs on the thread that completes the future, so it only schedules the call.
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish)

        super().add_done_callback(wake)
        try:
            value = yield from waiter.__await__()
        except BaseException:
            self.cancel()  # does nothing if the request has failed
            raise
        self._warn()
        return value


def warn_about_truncation(message: str) -> None:
    """Warn the caller about truncated sentences."""
    warnings.warn(message, TruncationWarning, stacklevel=_stack_level())


def _stack_level() -> int:
    """Return the ``stacklevel`` at which a warning names the caller's own line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        _INTERNAL_MODULES
    ):
        level, frame = level + 1, frame.f_back
    return level
