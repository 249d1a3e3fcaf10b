"""A worker's log with one JSON object per line, for log collectors.

Relies on private parts of celery 5.7 (the version is pinned, and tests/workers/test_logs_json.py
checks it): ``celery.apps.worker`` reports signals with ``safe_say``, which bypasses the log, and
shows a banner unless the worker is ``quiet``.
"""

import atexit
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from celery import signals
from celery.apps import worker as celery_worker
from celery.utils.log import get_multiprocessing_logger
from pythonjsonlogger.json import JsonFormatter

from bertq_workers.observability import stderr_relay

#: Seconds that the relay has at the end to write its last lines.
_FAREWELL = 2.0

#: Attributes of a record that become fields of the object. Others do not: Celery adds all arguments
#: of a task to its records.
_FIELDS = ("chunk", "rows", "tokens", "seconds")


class Formatter(JsonFormatter):
    """Formats a record as a JSON object."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Add the fields of a record to ``log_data``."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data |= {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().strip(),
            "pid": record.process,
            "node": self._node,
        }
        own = record.__dict__
        log_data |= {name: own[name] for name in _FIELDS if name in own}
        # The base class makes these two from a traceback; a message may be a dict, too.
        log_data |= {
            name: text
            for name in ("exc_info", "stack_info")
            if isinstance(text := message_dict.get(name), str)
        }


def begin(worker: Any) -> None:
    """Write all messages of this worker as JSON; must be called before Celery sets up logging."""
    formatter = Formatter(worker.hostname)
    worker.quiet = True  # no banner
    stderr = _relay(worker.hostname)
    stream = os.fdopen(stderr, "w", buffering=1, errors="backslashreplace")
    # In use until Celery replaces it with its own handler.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)

    def after_setup(logger: logging.Logger, **_: Any) -> None:
        for known in (logger, get_multiprocessing_logger()):
            for handler in known.handlers if known else []:
                handler.setFormatter(formatter)
                if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stderr__:
                    handler.setStream(stream)

    def say(message: str, _: Any = None) -> None:
        # Called in a signal handler, which must not take the lock of a log or a buffer.
        name, level = "celery.apps.worker", logging.WARNING
        record = logging.LogRecord(name, level, "", 0, str(message), None, None)
        try:
            os.write(stderr, f"{formatter.format(record)}\n".encode())
        except OSError:
            return  # there is nowhere to report it

    signals.after_setup_logger.connect(after_setup, weak=False)
    signals.after_setup_task_logger.connect(after_setup, weak=False)
    module: Any = celery_worker
    module.safe_say = say


def _relay(node: str) -> int:
    """Relay everything written to standard error, and return a copy of the original file.

    The log writes to that copy, past the relay, so no line of it is lost if all processes end with
    this one, as in a container.
    """
    own = os.dup(2)
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", stderr_relay.__file__, node, str(os.getpid())],
            stdin=reader,
            stdout=own,
            start_new_session=True,  # no Ctrl-C: it ends when all writers have ended
        )
    except OSError:
        os.close(writer)
        return own
    finally:
        os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)

    def end() -> None:
        os.dup2(own, 2)
        try:
            process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()

    atexit.register(end)
    return own
