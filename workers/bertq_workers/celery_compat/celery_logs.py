"""Celery's own log: the lines that bertq silences or formats.

Relies on private parts of celery 5.7 (the version is pinned; tests/workers/test_tasks.py and
test_logs_json.py check each): the names of its loggers, the beginning of its warning about
reconnects, ``safe_say`` of ``celery.apps.worker``, which reports signals past the log, and the
banner that is shown unless the worker is ``quiet``.
"""

import logging
import os
import sys
from typing import Any, TextIO

from celery import signals
from redis import RedisError

from bertq_workers.celery_compat.failures import summarize


def quiet_celery() -> None:
    """Silence Celery's lines about each chunk; ``bertq.worker`` logs its own.

    Celery would log one line when it receives a chunk and one at the end, with the repr of the
    result. For a failure it logs the whole traceback, and the last line may quote values.
    """
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    # CRITICAL stays enabled: the tracer reports its own errors at that level.
    logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
    for name in ("celery.worker.consumer.consumer", "celery.worker"):
        logging.getLogger(name).addFilter(_shorten_redis_error)
    # At each reconnect, Celery explains a default that will change, and that bertq sets. Celery
    # sets the filters of warnings itself, so the log is the only place for this filter.
    logging.getLogger("py.warnings").addFilter(
        lambda record: "In Celery 5.1 we introduced" not in record.getMessage()
    )


def _shorten_redis_error(record: logging.LogRecord) -> bool:
    """Replace the traceback of a Redis error, which is no help, with one line."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RedisError | OSError):
        record.msg = f"{record.getMessage().rstrip()} ({type(error).__name__}: {summarize(error)})"
        record.args, record.exc_info, record.exc_text = (), None, None
    return True


def hide_banner(worker: Any) -> None:
    """Have a worker start without Celery's banner."""
    worker.quiet = True


def format_with(formatter: logging.Formatter, stderr: TextIO) -> None:
    """Format the lines of Celery and of bertq, and write to ``stderr`` those for standard error.

    Must be called before Celery sets up logging.
    """

    def set_formatter(logger: logging.Logger, **_: Any) -> None:
        for handler in logger.handlers:
            handler.setFormatter(formatter)
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stderr__:
                handler.setStream(stderr)

    def report_signal(message: str, _: Any = None) -> None:
        # Called in a signal handler, which must not take the lock of a log or a buffer.
        name, level = "celery.apps.worker", logging.WARNING
        record = logging.LogRecord(name, level, "", 0, str(message), None, None)
        try:
            os.write(stderr.fileno(), f"{formatter.format(record)}\n".encode())
        except OSError:
            return  # there is nowhere to report it

    signals.after_setup_logger.connect(set_formatter, weak=False)
    # Imported here: clients of the app, such as the dashboard, do not need it.
    from celery.apps import worker as celery_worker

    module: Any = celery_worker
    module.safe_say = report_signal
