"""Waking of a thread, also from a signal handler."""

import queue
from contextlib import suppress


class WakeUp:
    """Wakes the one thread that waits for it.

    ``wake`` is safe in a signal handler at any point, because ``SimpleQueue.put`` is reentrant.
    ``threading.Event.set`` is not: if a second SIGTERM arrives while the handler of the first is in
    it, the handler would wait for a lock that its own thread has.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Wake the thread, or have its next wait return at once."""
        self._calls.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for a call of ``wake``, at most so many seconds; several calls count as one."""
        with suppress(queue.Empty):
            self._calls.get(timeout=seconds)
            while True:
                self._calls.get_nowait()
