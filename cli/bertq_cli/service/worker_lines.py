"""What the lines mean that workers print: as text, or as JSON objects (``--log-format json``)."""

import json
import logging
import re
from typing import Any

# What TensorFlow's C++ parts say before any log level applies to them, and Celery's farewell.
_NOISE = re.compile(r"WARNING: All log messages before absl|[IWEF]\d{4} \d\d:|worker: Warm shut")

# What a worker says that refuses to start.
_REFUSAL = "this worker cannot start: "


def parse(line: str) -> dict[str, Any] | None:
    """Return what a line says that is a JSON object; None for another one."""
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_news(line: str, log_level: str) -> bool:
    """Return whether a worker's line is for the user, who wants those of ``log_level``.

    A refusal is not: it is told when it is clear what comes of it.
    """
    message = _message(line)
    verbose = logging.getLevelName(log_level) < logging.WARNING
    return _REFUSAL not in message and (verbose or not _NOISE.match(message))


def refusal(tail: list[str]) -> str:
    """Return why a worker did not start, from the last lines of its output."""
    messages = list(map(_message, tail))
    said = [message.partition(_REFUSAL)[2] for message in messages if _REFUSAL in message]
    return said[-1] if said else "\n".join(messages)


def _message(line: str) -> str:
    return str((parse(line) or {}).get("message", line))
