"""Output of a service's messages, without ever blocking the service."""

import json
import os
import queue
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime

from bertq_cli.service import worker_lines

#: Lines to store for a reader that has stopped reading; the oldest are dropped.
_MAX_LINES = 1000
#: Seconds allowed to print the last lines.
_CLOSE_SECONDS = 1.0


class StatusOutput:
    """Prints lines from a separate thread.

    A closed terminal, a full disk or a reader that has stopped reading must not block the program.
    Otherwise it would neither supervise its processes nor react to signals.
    """

    def __init__(self, file: int | None = None, *, as_json: bool = False) -> None:
        """``as_json`` makes each line a JSON object; JSON objects are printed unchanged."""
        self._as_json = as_json
        # The file descriptor itself, because the thread could have the lock of Python's buffer at
        # exit.
        self._file = sys.stdout.fileno() if file is None else file
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MAX_LINES)
        self._thread = threading.Thread(target=self._run, name="bertq-output", daemon=True)
        self._thread.start()

    def report(self, label: str, text: str) -> None:
        """Print a line; never wait and never fail."""
        line = _object(label, text) if self._as_json else f"{label:<10}  {text}"
        self._put(f"{line}\n".encode(errors="replace"))

    def close(self) -> None:
        """Print the remaining lines, for a bounded time."""
        self._put(None)
        self._thread.join(_CLOSE_SECONDS)

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


def _object(label: str, text: str) -> str:
    """Return a line as the JSON object that a worker would have logged."""
    if worker_lines.parse(text) is not None:
        return text
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = {"time": now, "level": "INFO", "logger": "bertq.serve", "message": f"{label}: {text}"}
    return json.dumps({**entry, "pid": os.getpid()})
