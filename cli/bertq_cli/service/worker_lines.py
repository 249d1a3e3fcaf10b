"""Parsing of workers' output: text, or JSON objects (``--log-format json``)."""

import json
import logging
import re
from typing import Any

# Output of TensorFlow's C++ code before any log level applies, and Celery's line at a shutdown.
_NOISE = re.compile(r"WARNING: All log messages before absl|[IWEF]\d{4} \d\d:|worker: Warm shut")

# Start of the message of a worker that refuses to start.
_REFUSAL = "this worker cannot start: "

# Start of the message of a step of a worker's start.
_LOADING = re.compile(r"(?:^|MainProcess\] )loading: (.+)$")


def parse(line: str) -> dict[str, Any] | None:
    """Return the JSON object on a line; None if the line is not one."""
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_shown(line: str, log_level: str) -> bool:
    """Return whether to show a worker's line to a user who selected ``log_level``.

    A refusal is not shown here: it is reported once its consequence is known.
    """
    message = _message(line)
    verbose = logging.getLevelName(log_level) < logging.WARNING
    hidden = _NOISE.match(message) or _LOADING.search(message)
    return _REFUSAL not in message and (verbose or not hidden)


def find_refusal(tail: list[str]) -> str:
    """Return why a worker did not start, from the last lines of its output."""
    messages = list(map(_message, tail))
    reasons = [message.partition(_REFUSAL)[2] for message in messages if _REFUSAL in message]
    return reasons[-1] if reasons else "\n".join(messages)


def find_step(line: str) -> str | None:
    """Return the step of a worker's start that a line reports, such as ``building the graph``."""
    found = _LOADING.search(_message(line))
    return found and found[1]


def _message(line: str) -> str:
    return str((parse(line) or {}).get("message", line))
