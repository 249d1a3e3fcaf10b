"""A small process that puts what libraries write on a worker's standard error into JSON objects.

TensorFlow's C++ parts know no log of Python's. A thread of the worker could do it too, but would
lose the last words of one that crashes. Run by its path, with the standard library alone: arguments
are the worker's node and process id.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

# As absl, with which TensorFlow writes them, begins its lines.
_ABSL = re.compile(r"([IWEF])\d{4} \d\d:\d\d:")
_LEVELS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}

_BLOCK = 8192


def lines(file: int) -> Iterator[bytes]:
    """Return what is written until all who may write are gone; of a line without end the start."""
    pending = b""
    while block := os.read(file, _BLOCK):
        *whole, pending = (pending + block).split(b"\n")
        yield from whole
        pending = pending[:_BLOCK]
    yield pending


def entry(text: str, node: str, pid: int) -> str:
    """Return the JSON object of a line."""
    if _is_object(text):
        return text  # a worker that has started itself anew writes here
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
    """Relay standard input to standard output until its end, whatever is asked meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    node, pid = sys.argv[1], int(sys.argv[2])
    for line in lines(0):
        if text := line.decode(errors="replace").strip():
            os.write(1, f"{entry(text, node, pid)}\n".encode())


if __name__ == "__main__":
    main()
