"""The end of a running worker, and Celery's flags for it.

Relies on private parts of celery 5.7 (the version is pinned; tests/workers/test_claims.py and
tests/kernel/test_backend.py check each): the consumer's loop turns ``state.should_stop`` into the
exit status; the flags are exit statuses, 0 included, or None, or False.
"""

import logging
import os
from typing import Any, NoReturn

from celery.worker import state

from bertq_workers.celery_compat.failures import format_frames

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


def end_after_error(part: str, error: BaseException) -> None:
    """End a running worker because of an unexpected error, which is a bug; log its traceback.

    Args:
        part: the part of the worker that has failed, as in "thread bertq-heartbeat".
        error: the error.
    """
    log.error("%s failed:\n%s", part, format_frames(error))
    end_worker(_describe(part, error), os.EX_SOFTWARE)


def exit_after_error(part: str, error: BaseException) -> NoReturn:
    """End the process at once because of an unexpected error; log its traceback.

    Needed if the worker cannot finish its chunks. Other workers receive them.
    """
    log.error("%s failed:\n%s", part, format_frames(error))
    exit_process(_describe(part, error))


def exit_process(reason: str) -> NoReturn:
    """End the process at once, from any thread; other workers receive its chunks."""
    log.critical("this worker ends: %s", reason)
    logging.shutdown()
    # sys.exit would end only this thread, and a signal would wait for the pool.
    os._exit(os.EX_SOFTWARE)


def _describe(part: str, error: BaseException) -> str:
    return f"{part} failed ({type(error).__name__}); please report this with the lines above"


def is_stopping() -> bool:
    """Return whether the worker is shutting down."""
    flags = (state.should_stop, state.should_terminate)
    return any(flag is not None and flag is not False for flag in flags)
