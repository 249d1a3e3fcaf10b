"""A small process that converts lines on a worker's standard error to JSON objects.

TensorFlow's C++ code does not use Python's logging. A thread of the worker could convert the lines
too, but would lose the last lines of a crashing worker. The process is run by its path and uses
only the standard library; its arguments are the worker's node and process id.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

# The beginning of a line from absl, which TensorFlow uses to write them.
_ABSL = re.compile(r"([IWEF])\d{4} \d\d:\d\d:")
_LEVELS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}

_BLOCK = 8192


def lines(file: int) -> Iterator[bytes]:
    """Yield lines until all writers have ended; of a line without an end, only the start."""
    pending = b""
    while block := os.read(file, _BLOCK):
        *whole, pending = (pending + block).split(b"\n")
        yield from whole
        pending = pending[:_BLOCK]
    yield pending


def entry(text: str, node: str, pid: int) -> str:
    """Return a line as a JSON object."""
    if _is_object(text):
        return text  # written by a worker that has restarted itself
    known = _ABSL.match(text)
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    level = _LEVELS[known[1]] if known else "WARNING"
    said = {"time": moment, "level": level, "logger": "stderr", "message": text}
    return json.dumps({**said, "pid": pid, "node": node})


def _is_object(text: str) -> bool:
    try:
        return text.startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def main() -> None:
    """Relay standard input to standard output until its end, ignoring signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    node, pid = sys.argv[1], int(sys.argv[2])
    for line in lines(0):
        if text := line.decode(errors="replace").strip():
            os.write(1, f"{entry(text, node, pid)}\n".encode())


if __name__ == "__main__":
    main()
