"""What a service says, whoever listens."""

import json
import os
import queue
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime

from bertq_cli.service import worker_lines

#: Lines that wait for a reader who has stopped reading; the oldest are dropped.
_WAITING = 1000
#: Seconds that the last lines have.
_FAREWELL = 1.0


class Output:
    """Prints lines from a thread of its own.

    A terminal that is gone, a disk that is full or a reader that has stopped reading must not stop
    the program: it would neither look after its processes nor hear that it shall end.
    """

    def __init__(self, file: int | None = None, *, as_json: bool = False) -> None:
        """``as_json`` makes each line a JSON object; what is one already stays as it is."""
        self._as_json = as_json
        # The file itself: Python's buffer has a lock that the thread would hold at the exit.
        self._file = sys.stdout.fileno() if file is None else file
        self._lines: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="bertq-voice", daemon=True)
        self._thread.start()

    def say(self, what: str, text: str) -> None:
        """Print a line; never waits and never fails."""
        line = _object(what, text) if self._as_json else f"{what:<10}  {text}"
        self._put(f"{line}\n".encode(errors="replace"))

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


def _object(what: str, text: str) -> str:
    """Return a line as its writer would have written it in JSON."""
    if worker_lines.parse(text) is not None:
        return text
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = {"time": now, "level": "INFO", "logger": "bertq.serve", "message": f"{what}: {text}"}
    return json.dumps({**said, "pid": os.getpid()})
