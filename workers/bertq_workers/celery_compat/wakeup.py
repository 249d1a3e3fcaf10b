"""Waking of a thread, also from a signal handler."""

import queue
from contextlib import suppress


class WakeUp:
    """Wakes the one thread that waits for it.

    ``ring`` is safe in a signal handler at any point, because ``SimpleQueue.put`` is reentrant.
    ``threading.Event.set`` is not: if a second SIGTERM arrives while the handler of the first is in
    it, the handler would wait for a lock that its own thread has.
    """

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wake the thread, or have its next wait return at once."""
        self._rings.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for a ring, at most so many seconds; several rings count as one."""
        with suppress(queue.Empty):
            self._rings.get(timeout=seconds)
            while True:
                self._rings.get_nowait()
