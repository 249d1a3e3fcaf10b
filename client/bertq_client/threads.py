"""The threads of a client: daemons, so none of them delays the interpreter's exit."""

import threading
from collections.abc import Callable
from concurrent.futures import Future


def start(run: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread and return it. Debuggers show ``name`` after ``bertq-``."""
    thread = threading.Thread(target=run, name=f"bertq-{name}", daemon=True)
    thread.start()
    return thread


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
