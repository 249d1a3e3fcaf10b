"""The threads of a client: daemons, so none of them delays the interpreter's exit for long."""

import atexit
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

#: Most seconds that the closing of a client waits for its threads, and so for Redis.
JOIN_SECONDS = 2.0

_joined_at_exit: set[threading.Thread] = set()


def start(run: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread and return it. Debuggers show ``name`` after ``bertq-``."""
    thread = threading.Thread(target=run, name=f"bertq-{name}", daemon=True)
    thread.start()
    return thread


def join_at_exit(thread: threading.Thread) -> None:
    """Wait for a thread when the interpreter exits, at most ``JOIN_SECONDS`` for all together."""
    _joined_at_exit.difference_update([one for one in list(_joined_at_exit) if not one.is_alive()])
    _joined_at_exit.add(thread)


@atexit.register
def _join() -> None:
    end = time.monotonic() + JOIN_SECONDS
    for thread in list(_joined_at_exit):
        thread.join(max(0.0, end - time.monotonic()))


def run(call: Callable[[], None], name: str) -> Future[None]:
    """Run ``call`` on a new thread; return its outcome, which cannot be cancelled."""
    outcome: Future[None] = Future()
    outcome.set_running_or_notify_cancel()

    def work() -> None:
        try:
            call()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    start(work, name)
    return outcome
