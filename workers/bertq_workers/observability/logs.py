"""What a worker's log shows: one line a chunk, and never a user's text or a vector.

Relies on the inside of celery 5.7 (the version is pinned, and tests/workers/test_tasks.py looks at
each): the names of its loggers, and how its warning about reconnects begins.
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
    """Leave the lines about each chunk to ``bertq.worker``.

    Celery would print a line at the receipt and one at the end, with the repr of the result, and
    for a failure the whole traceback, whose last line may quote values.
    """
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    # CRITICAL stays: it is how the tracer reports errors of its own.
    logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
    for name in ("celery.worker.consumer.consumer", "celery.worker"):
        logging.getLogger(name).addFilter(_without_traceback)
    # At each reconnect it explains a default that will change, and that bertq sets. Celery sets
    # the filters of warnings itself, so that this is the place left.
    logging.getLogger("py.warnings").addFilter(
        lambda record: "In Celery 5.1 we introduced" not in record.getMessage()
    )


def begin(worker: Any, options: Mapping[str, object]) -> None:
    """Have a worker's lines written as its settings say; called before Celery sets logs up."""
    name = "log_format"
    own = {key: os.environ.get(key, "") for key in (variable(name),)}
    try:
        settings = Settings.read(own, {name: options.get(name)})
        check(settings)
    except SettingsError:
        return  # the worker will refuse to start, in a moment and with better words
    if settings.log_format == "json":
        from bertq_workers.observability import json_logs

        json_logs.begin(worker)


def check(settings: Settings) -> None:
    """Refuse a format of lines that cannot be written.

    Raises:
        SettingsError: a package is not installed.
    """
    if settings.log_format == "json":
        extras.need("--log-format json", "worker", "pythonjsonlogger")


def computed(task_id: str, rows: int, tokens: int, seconds: float) -> None:
    """Log a chunk that has its rows."""
    log.info(
        "chunk %s: %d rows, %d tokens, %.3f s", task_id, rows, tokens, seconds,
        extra={"chunk": task_id, "rows": rows, "tokens": tokens, "seconds": round(seconds, 6)},
    )  # fmt: skip


def dropped(task_id: str) -> None:
    """Log a chunk that nobody wants."""
    log.info("chunk %s: dropped, its job is over", task_id, extra={"chunk": task_id})


def _without_traceback(record: logging.LogRecord) -> bool:
    """Say what Redis did in a line: where in Celery it was noticed helps nobody."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RedisError | OSError):
        record.msg = f"{record.getMessage().rstrip()} ({type(error).__name__}: {summarize(error)})"
        record.args, record.exc_info, record.exc_text = (), None, None
    return True
