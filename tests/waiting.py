"""Waiting for what happens on other threads and in other processes."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until ``condition()`` holds; fail after so many seconds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"it did not happen within {seconds} s"
        time.sleep(0.01)
