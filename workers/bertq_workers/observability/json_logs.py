"""A worker's log with one JSON object per line, for log collectors."""

import atexit
import os
import subprocess
import sys
from typing import Any

from bertq_workers.celery_compat import celery_logs
from bertq_workers.observability import json_lines
from bertq_workers.observability.json_lines import JsonFormatter

#: Time for the relay to write its last lines when the worker ends.
_RELAY_END_SECONDS = 2.0


def write_json(worker: Any) -> None:
    """Write all messages of this worker as JSON; must be called before Celery sets up logging."""
    celery_logs.hide_banner(worker)
    stderr = _relay_stderr(worker.hostname)
    celery_logs.format_with(
        JsonFormatter(worker.hostname),
        os.fdopen(stderr, "w", buffering=1, errors="backslashreplace"),
    )


def _relay_stderr(node: str) -> int:
    """Relay everything written to standard error, and return a copy of the original file.

    The log writes to that copy, past the relay, so no line of it is lost if all processes end with
    this one, as in a container.
    """
    original = os.dup(2)
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            # -I and -S: only the standard library, which starts sooner.
            [sys.executable, "-S", "-I", json_lines.__file__, node, str(os.getpid())],
            stdin=reader,
            stdout=original,
            start_new_session=True,  # no Ctrl-C: it ends when all writers have ended
        )
    finally:
        os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)

    def end_relay() -> None:
        os.dup2(original, 2)  # so that the relay has no writer any more
        try:
            process.wait(_RELAY_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()

    atexit.register(end_relay)
    return original
