"""Output of a service's messages, without ever blocking the service."""

import json
import os
import queue
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from bertq_cli.service import worker_lines

#: Lines to store for a reader that has stopped reading; the oldest are dropped.
_MAX_LINES = 1000
#: Seconds allowed to print the last lines.
_CLOSE_SECONDS = 1.0
#: Width of a terminal that does not know its own.
_DEFAULT_COLUMNS = 80
#: To the start of the terminal's line, and clear it.
_CLEAR_LINE = b"\r\x1b[K"


@dataclass(frozen=True)
class _Progress:
    """A line at the end of the output that later output replaces."""

    line: bytes


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
        self._is_terminal = os.isatty(self._file)
        self._lines: queue.Queue[bytes | _Progress | None] = queue.Queue(_MAX_LINES)
        self._thread = threading.Thread(target=self._run, name="bertq-output", daemon=True)
        self._thread.start()

    def report(self, label: str, text: str) -> None:
        """Print a line; never wait and never fail."""
        line = _object(label, text) if self._as_json else f"{label:<10}  {text}"
        self._put(f"{line}\n".encode(errors="replace"))

    def show_progress(self, text: str) -> None:
        """Replace the line of progress on a terminal; an empty text removes it."""
        if self._is_terminal and not self._as_json:
            with suppress(OSError):
                width = os.get_terminal_size(self._file).columns or _DEFAULT_COLUMNS
                line = f"{'starting':<10}  {text}"[: width - 1] if text else ""
                self._put(_Progress(line.encode(errors="replace")))

    def close(self) -> None:
        """Print the remaining lines, for a bounded time."""
        self._put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _put(self, line: bytes | _Progress | None) -> None:
        while True:
            with suppress(queue.Full):
                self._lines.put_nowait(line)
                return
            with suppress(queue.Empty):
                self._lines.get_nowait()

    def _run(self) -> None:
        progress = b""
        while (item := self._lines.get()) is not None:
            text = _CLEAR_LINE if progress else b""
            if isinstance(item, _Progress):
                progress = item.line
            else:
                text += item
            text += progress
            with suppress(OSError):
                while text:
                    text = text[os.write(self._file, text) :]


def _object(label: str, text: str) -> str:
    """Return a line as the JSON object that a worker would have logged."""
    if worker_lines.parse(text) is not None:
        return text
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = {"time": now, "level": "INFO", "logger": "bertq.serve", "message": f"{label}: {text}"}
    return json.dumps({**entry, "pid": os.getpid()})
