"""Waking a thread, from a signal handler too."""

import queue
from contextlib import suppress


class WakeUp:
    """Wakes the one thread that waits for it.

    It may be rung in a signal handler, whatever that has interrupted: ``SimpleQueue.put`` is
    reentrant. ``threading.Event.set`` is not: a second SIGTERM that comes while the handler of the
    first is in it would wait for a lock that its own thread holds.
    """

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wake the thread, or have its next wait be none."""
        self._rings.put(None)

    def wait(self, seconds: float) -> None:
        """Wait until it is rung, or for so long; however often it was rung, that is once."""
        with suppress(queue.Empty):
            self._rings.get(timeout=seconds)
            while True:
                self._rings.get_nowait()
