"""The log of a worker: one line per chunk, never a user's text or a vector."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from bertq.config.settings import Settings, variable
from bertq.errors import SettingsError
from bertq_workers.observability import json_logs

log = logging.getLogger("bertq.worker")


def set_format(worker: Any, options: Mapping[str, object]) -> None:
    """Set the format of a worker's log; must be called before Celery sets up logging."""
    option = "log_format"
    environ = {variable(option): os.environ.get(variable(option), "")}
    try:
        settings = Settings.read(environ, {option: options.get(option)})
    except SettingsError:
        return  # the worker will refuse to start, with a better message
    if settings.log_format == "json":
        json_logs.write_json(worker)


def log_computed(task_id: str, rows: int, tokens: int, seconds: float) -> None:
    """Log a computed chunk."""
    log.info(
        "chunk %s: %d rows, %d tokens, %.3f s", task_id, rows, tokens, seconds,
        extra={"chunk": task_id, "rows": rows, "tokens": tokens, "seconds": round(seconds, 6)},
    )  # fmt: skip


def log_dropped(task_id: str) -> None:
    """Log a chunk that was dropped because its job is over."""
    log.info("chunk %s: dropped, its job is over", task_id, extra={"chunk": task_id})


def log_rejected(task_id: str, reason: str) -> None:
    """Log a chunk that was answered with an error because of its caller's mistake."""
    log.info("chunk %s: rejected, %s", task_id, reason, extra={"chunk": task_id})


def log_failed(task_id: str, reason: str) -> None:
    """Log a chunk that was answered with an error."""
    log.error("chunk %s: failed, %s", task_id, reason, extra={"chunk": task_id})
