"""A worker's log as one JSON object a line, for what gathers logs.

Relies on the inside of celery 5.7 (the version is pinned, and tests/workers/test_logs_json.py looks
at it): ``celery.apps.worker`` says what comes of a signal by ``safe_say``, past its log, and shows
a banner unless the worker is ``quiet``.
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

#: Seconds that the relay has at the end to tell the last of what it was told.
_FAREWELL = 2.0

#: Attributes of a record that become fields of their own. No others: Celery gives its records all
#: that a task was called with.
_FIELDS = ("chunk", "rows", "tokens", "seconds")


class Formatter(JsonFormatter):
    """Writes a record as a JSON object."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Put what is shown of a record into ``log_data``."""
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
        # The two that the base class makes of a traceback; a message may be a dict, too.
        log_data |= {
            name: text
            for name in ("exc_info", "stack_info")
            if isinstance(text := message_dict.get(name), str)
        }


def begin(worker: Any) -> None:
    """Have all that this worker says from now on written so; called before Celery sets logs up."""
    formatter = Formatter(worker.hostname)
    worker.quiet = True  # no banner
    stderr = _relay(worker.hostname)
    stream = os.fdopen(stderr, "w", buffering=1, errors="backslashreplace")
    # Until then: Celery puts its own handler in the place of this one.
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
        # In a signal's handler, where nothing may be locked: neither a log nor a buffer.
        name, level = "celery.apps.worker", logging.WARNING
        record = logging.LogRecord(name, level, "", 0, str(message), None, None)
        try:
            os.write(stderr, f"{formatter.format(record)}\n".encode())
        except OSError:
            return  # nobody can be told

    signals.after_setup_logger.connect(after_setup, weak=False)
    signals.after_setup_task_logger.connect(after_setup, weak=False)
    module: Any = celery_worker
    module.safe_say = say


def _relay(node: str) -> int:
    """Have what is written on standard error relayed; return the file that it was before.

    For the log, which goes past the relay: nothing of it is lost where all processes end with this
    one, as in a container.
    """
    own = os.dup(2)
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", stderr_relay.__file__, node, str(os.getpid())],
            stdin=reader,
            stdout=own,
            start_new_session=True,  # Ctrl-C is not for it: it ends when nobody can write any more
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
