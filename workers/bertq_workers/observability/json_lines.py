"""Log lines as JSON objects, for log collectors.

This module is also a program: a small process that converts lines on a worker's standard error.
TensorFlow's C++ code writes there, past Python's logging. The process is run by its path and uses
only the standard library; its arguments are the worker's node and process id.
"""

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

#: Attributes of a record that become fields of the object. Others do not: Celery adds all arguments
#: of a task to its records.
_FIELDS = ("chunk", "rows", "tokens", "seconds")

# The beginning of a line from absl, which TensorFlow uses to write them.
_ABSL = re.compile(r"([IWEF])\d{4} \d\d:\d\d:")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}

_BLOCK_BYTES = 8192


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object on one line."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as text."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().strip(),
            "pid": record.process,
            "node": self._node,
        }
        own = vars(record)
        fields |= {name: own[name] for name in _FIELDS if name in own}
        if record.exc_info:
            fields["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack_info"] = self.formatStack(record.stack_info)
        return json.dumps(fields)


def read_lines(file: int) -> Iterator[bytes]:
    """Yield lines until all writers have ended, in parts if a line is very long."""
    pending = b""
    while block := os.read(file, _BLOCK_BYTES):
        *whole, pending = (pending + block).split(b"\n")
        yield from whole
        if len(pending) > _BLOCK_BYTES:
            yield pending
            pending = b""
    yield pending


def format_line(text: str, formatter: JsonFormatter, pid: int) -> str:
    """Return a line from standard error as a JSON object."""
    if _is_object(text):
        return text  # written by a worker that has restarted itself
    match = _ABSL.match(text)
    level = _LEVELS[match[1]] if match else logging.WARNING
    record = logging.LogRecord("stderr", level, "", 0, text, None, None)
    record.process = pid
    return formatter.format(record)


def _is_object(text: str) -> bool:
    try:
        return text.startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def main() -> None:
    """Convert standard input to standard output until its end, ignoring signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    formatter, pid = JsonFormatter(sys.argv[1]), int(sys.argv[2])
    for line in read_lines(0):
        if text := line.decode(errors="replace").strip():
            os.write(1, f"{format_line(text, formatter, pid)}\n".encode())


if __name__ == "__main__":
    main()
