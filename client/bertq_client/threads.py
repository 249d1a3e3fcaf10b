"""Threads of a client: all are daemons, none keeps the interpreter from ending."""

import threading
from collections.abc import Callable


def start(run: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread and return it; ``name`` is what debuggers show after ``bertq-``."""
    thread = threading.Thread(target=run, name=f"bertq-{name}", daemon=True)
    thread.start()
    return thread


def join(thread: threading.Thread, timeout: float) -> None:
    """Wait for a thread, unless it is this one: a client may be collected on its own threads."""
    if thread is not threading.current_thread():
        thread.join(timeout)
