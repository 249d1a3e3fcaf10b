"""The log of a worker: one line per chunk, never a user's text or a vector.

Relies on private parts of celery 5.7 (the version is pinned, and tests/workers/test_tasks.py checks
each): the names of its loggers, and the beginning of its warning about reconnects.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

from redis import RedisError

from bertq.config.settings import Settings, variable
from bertq.errors import SettingsError
from bertq.system import extras
from bertq_workers.celery_compat.backend import summarize

log = logging.getLogger("bertq.worker")


def quiet_celery() -> None:
    """Silence Celery's lines about each chunk; ``bertq.worker`` logs its own.

    Celery would log one line when it receives a chunk and one at the end, with the repr of the
    result. For a failure it logs the whole traceback, and the last line may quote values.
    """
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    # CRITICAL stays enabled: the tracer reports its own errors at that level.
    logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
    for name in ("celery.worker.consumer.consumer", "celery.worker"):
        logging.getLogger(name).addFilter(_without_traceback)
    # At each reconnect, Celery explains a default that will change, and that bertq sets. Celery
    # sets the filters of warnings itself, so the log is the only place for this filter.
    logging.getLogger("py.warnings").addFilter(
        lambda record: "In Celery 5.1 we introduced" not in record.getMessage()
    )


def begin(worker: Any, options: Mapping[str, object]) -> None:
    """Set the format of a worker's log; must be called before Celery sets up logging."""
    name = "log_format"
    own = {key: os.environ.get(key, "") for key in (variable(name),)}
    try:
        settings = Settings.read(own, {name: options.get(name)})
        check(settings)
    except SettingsError:
        return  # the worker will refuse to start, with a better message
    if settings.log_format == "json":
        from bertq_workers.observability import json_logs

        json_logs.begin(worker)


def check(settings: Settings) -> None:
    """Refuse a log format that cannot be written.

    Raises:
        SettingsError: a package is not installed.
    """
    if settings.log_format == "json":
        extras.require("--log-format json", "worker", "pythonjsonlogger")


def computed(task_id: str, rows: int, tokens: int, seconds: float) -> None:
    """Log a computed chunk."""
    log.info(
        "chunk %s: %d rows, %d tokens, %.3f s", task_id, rows, tokens, seconds,
        extra={"chunk": task_id, "rows": rows, "tokens": tokens, "seconds": round(seconds, 6)},
    )  # fmt: skip


def dropped(task_id: str) -> None:
    """Log a chunk that was dropped because its job is over."""
    log.info("chunk %s: dropped, its job is over", task_id, extra={"chunk": task_id})


def _without_traceback(record: logging.LogRecord) -> bool:
    """Replace the traceback of a Redis error, which is no help, with one line."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RedisError | OSError):
        record.msg = f"{record.getMessage().rstrip()} ({type(error).__name__}: {summarize(error)})"
        record.args, record.exc_info, record.exc_text = (), None, None
    return True
