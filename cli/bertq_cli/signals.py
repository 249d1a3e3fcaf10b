"""Handling of signals, so that a command ends its processes and removes its files."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise SystemExit, with the exit status of a shell."""

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


@contextmanager
def handle_in_loop(
    loop: asyncio.AbstractEventLoop, handle: Callable[[int], None]
) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP in the loop, and restore the earlier handlers.

    The signals are blocked meanwhile: there is no moment at which one would end this program
    without the caller's cleanup.
    """
    # nohup ignores SIGHUP, and that is respected. A shell that starts a program in the background
    # ignores SIGINT, but the program shall still stop if it gets one.
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        try:
            for number, handler in previous.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
