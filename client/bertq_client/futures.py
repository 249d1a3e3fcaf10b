"""The future of a request: a ``concurrent.futures.Future`` that can be awaited too."""

import asyncio
import logging
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, NamedTuple

from bertq.errors import TruncationWarning
from bertq_client import threads

log = logging.getLogger("bertq.client")

#: Modules whose lines are not the caller's.
_OWN = ("bertq_client.", "concurrent.futures", "asyncio.")


class Callbacks:
    """The thread that runs the callbacks of a client's futures, one after the other.

    Not the gather thread: a callback may call ``encode()``, which waits for that one.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # signal handlers may close the client
        self._running = False
        self._closed = False

    def put(self, call: Callable[[], object]) -> None:
        """Run ``call`` after those before it; an exception of it is logged."""
        with self._lock:
            self._queue.put(call)
            if self._closed:
                self._queue.put(None)
            if not self._running or self._closed:
                self._start()

    def _start(self) -> None:
        try:
            threads.start(self._run, "callbacks")
        except RuntimeError as error:
            # From Python 3.12 on there are no new threads once the interpreter is ending.
            log.warning("callbacks of bertq futures have to wait: %s", error)
        else:
            self._running = True

    def close(self) -> None:
        """End the thread once it has run what is queued; one that comes later has its own."""
        with self._lock:
            if self._running and not self._closed:
                self._queue.put(None)
            self._closed = True

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                call()
            except BaseException:
                # SystemExit too: it would end the callbacks of all futures, and nothing else.
                log.exception("a callback of a bertq future failed")
            del call  # or its client could not be collected before the next one


class Progress(NamedTuple):
    """How far a request is, in sentences.

    Attributes:
        done: whose rows have come.
        total: of the request.
    """

    done: int
    total: int


class EncodeFuture(Future[Any]):
    """The vectors of one request, once they are there.

    Everything of ``concurrent.futures.Future``, with three differences: it can be awaited;
    ``cancel`` works until the vectors are there, and tells the workers; callbacks run on a thread
    of the client's own, one at a time, in the order in which they become due.

    Attributes:
        number: of the request: the client counts them.
        tokens_read: with ``count_tokens``, once it is done: how many tokens were read of all
            sentences, special tokens included; else None.
        fingerprint: once it is done, of the model that the vectors come from; else empty. What is
            made of vectors of another fingerprint cannot be compared with them.
        cut: once it is done, how many sentences had more tokens than are read.
    """

    def __init__(
        self, callbacks: Callbacks, number: int, total: int, on_cancel: Callable[[], object]
    ) -> None:
        super().__init__()
        self.number = number
        self.tokens_read: int | None = None
        self.fingerprint = ""
        self.cut = 0
        self._total = total
        self._done = 0
        self._note: str | None = None
        self._muted = False
        self._callbacks_thread = callbacks
        self._on_cancel = on_cancel
        self._cancel_lock = threading.RLock()  # callbacks of other futures may cancel this one
        self._kept: object = None

    def keep(self, client: object) -> None:
        """Keep the client, and with it its threads, alive as long as somebody holds the future."""
        self._kept = client

    @property
    def progress(self) -> Progress:
        """How far the request is; rows come by chunks of up to 256."""
        finished = self.done() and not self.cancelled() and self.exception() is None
        return Progress(self._total if finished else self._done, self._total)

    def advance(self, done: int) -> None:
        """Note how many rows have come."""
        self._done = done

    def note(self, message: str) -> None:
        """Have whoever takes the vectors warned, once."""
        self._note = message

    def mute(self) -> None:
        """Warn nobody: whoever holds the future looks at ``cut``."""
        self._muted = True

    def result(self, timeout: float | None = None) -> Any:
        """Return the vectors, waiting for them.

        Args:
            timeout: seconds to wait here; the request goes on meanwhile.

        Raises:
            TimeoutError: they are not there yet.
            Exception: what ``BertClient.encode`` raises.
        """
        value = super().result(timeout)
        self._warn()
        return value

    def _warn(self) -> None:
        note, self._note = self._note, None
        if note is not None and not self._muted:
            warn(note)

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Have ``fn(self)`` called when the future is done, or soon if it is."""
        super().add_done_callback(lambda done: self._callbacks_thread.put(lambda: fn(done)))

    def cancel(self) -> bool:
        """Give the request up; workers drop what they have not begun.

        Returns:
            False if the vectors, or an error, were there before.
        """
        with self._cancel_lock:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            # An executor would do this when it takes up the task: only now do
            # ``concurrent.futures.wait`` and ``as_completed`` hear of it.
            self.set_running_or_notify_cancel()
        self._on_cancel()
        return True

    def abandon(self, error: BaseException) -> None:
        """Fail in a forked child; who completes the future is the parent, and who is called."""
        # A thread that the child does not have may have held these.
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
            # On the thread that completes the future: it may only pass the news on.
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish)

        def forward(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                self.cancel()

        super().add_done_callback(wake)
        waiter.add_done_callback(forward)
        value = yield from waiter.__await__()
        self._warn()
        return value


def warn(message: str) -> None:
    """Warn the caller that sentences were cut."""
    warnings.warn(message, TruncationWarning, stacklevel=_outside())


def _outside() -> int:
    """Return the ``stacklevel`` at which a warning names the line of the caller's own code."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OWN):
        level, frame = level + 1, frame.f_back
    return level
