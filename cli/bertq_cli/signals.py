"""Handling of SIGTERM and SIGHUP like Ctrl-C, so that a command removes its files."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Make both signals raise SystemExit, with the exit status of a shell."""

    def exit_program(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # An ignored signal stays ignored, for nohup.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, exit_program) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
