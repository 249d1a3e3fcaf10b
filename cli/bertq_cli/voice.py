"""What a service says, whoever listens."""

import os
import queue
import sys
import threading
from contextlib import suppress

#: Lines that wait for a reader who has stopped reading; the oldest are dropped.
_WAITING = 1000
#: Seconds that the last lines have.
_FAREWELL = 1.0


class Voice:
    """Prints lines from a thread of its own.

    A terminal that is gone, a disk that is full or a reader that has stopped reading must not stop
    the program: it would neither look after its processes nor hear that it shall end.
    """

    def __init__(self, file: int | None = None) -> None:
        # The file itself: Python's buffer has a lock that the thread would hold at the exit.
        self._file = sys.stdout.fileno() if file is None else file
        self._lines: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="bertq-voice", daemon=True)
        self._thread.start()

    def say(self, what: str, text: str) -> None:
        """Print a line; never waits and never fails."""
        self._put(f"{what:<10}  {text}\n".encode(errors="replace"))

    def close(self) -> None:
        """Print what is left, for a bounded time."""
        self._put(None)
        self._thread.join(_FAREWELL)

    def _put(self, line: bytes | None) -> None:
        while True:
            with suppress(queue.Full):
                self._lines.put_nowait(line)
                return
            with suppress(queue.Empty):
                self._lines.get_nowait()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError):
                while line:
                    line = line[os.write(self._file, line) :]
