"""A worker's log with one JSON object per line, for log collectors."""

import atexit
import os
from typing import Any

from bertq_workers.celery_compat import celery_logs
from bertq_workers.observability import json_lines, stderr_relay
from bertq_workers.observability.json_lines import JsonFormatter


def write_json(worker: Any) -> None:
    """Write all messages of this worker as JSON; must be called before Celery sets up logging.

    The log writes past the relay, so no line of it is lost if all processes end with this one, as
    in a container.
    """
    celery_logs.hide_banner(worker)
    node = worker.hostname
    original, end_relay = stderr_relay.start(json_lines.__file__, node, str(os.getpid()))
    atexit.register(end_relay)
    celery_logs.format_with(
        JsonFormatter(node), os.fdopen(original, "w", buffering=1, errors="backslashreplace")
    )
