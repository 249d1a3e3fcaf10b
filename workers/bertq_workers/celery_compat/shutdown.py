"""The end of a running worker, and Celery's flags for it.

Relies on private parts of celery 5.7 (the version is pinned; tests/workers/test_claims.py and
tests/kernel/test_backend.py check each): the consumer's loop turns ``state.should_stop`` into the
exit status; the flags are exit statuses, 0 included, or None, or False.
"""

import logging
from typing import Any

from celery.worker import state

log = logging.getLogger("bertq.worker")


def end_worker(reason: str, status: int) -> None:
    """End a running worker, from any thread, once it has finished the chunks that it has taken.

    Args:
        reason: written to the log.
        status: an exit status of ``sysexits.h``.
    """
    log.critical("this worker ends: %s", reason)
    flags: Any = state
    flags.should_stop = status


def is_stopping() -> bool:
    """Return whether the worker is shutting down."""
    flags = (state.should_stop, state.should_terminate)
    return any(flag is not None and flag is not False for flag in flags)
