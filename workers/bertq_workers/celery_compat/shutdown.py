"""The end of a running worker, and Celery's flags for it.

Relies on private parts of celery 5.7 (the version is pinned; tests/workers/test_claims.py,
tests/operate/test_drain.py and tests/kernel/test_backend.py check each): the consumer's loop turns
``state.should_stop`` into the exit status; the flags are exit statuses, 0 included, or None, or
False; SIGTERM begins a warm shutdown and SIGQUIT a cold one, in the main thread.
"""

import logging
import os
import signal
import threading
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


def drain_worker(max_seconds: float) -> None:
    """End a running worker as SIGTERM does, from any thread.

    Args:
        max_seconds: after this time the worker returns unfinished chunks to their queues.
    """
    log.warning("this worker drains, as requested: it takes no more chunks (%g s)", max_seconds)
    _send_signal(signal.SIGTERM)
    timer = threading.Timer(max_seconds, _send_signal, [signal.SIGQUIT])
    timer.daemon = True
    timer.start()


def _send_signal(number: signal.Signals) -> None:
    main = threading.main_thread().ident
    assert main is not None  # it has been started
    # Not to the process: only a signal to its own thread interrupts a wait of the event loop.
    signal.pthread_kill(main, number)


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
    flag = state.should_stop
    return (flag is not None and flag is not False) or is_cold()


def is_cold() -> bool:
    """Return whether the worker is in a cold shutdown: it returns unfinished chunks."""
    flag = state.should_terminate
    return flag is not None and flag is not False
