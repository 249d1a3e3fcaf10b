"""Relays what libraries write to standard error, past Python's logging, through a small process.

A thread of the worker could do that too, but would lose the last lines of a crashing worker.
"""

import os
import subprocess
import sys
from collections.abc import Callable

#: Time for the process to write its last lines.
_END_SECONDS = 2.0


def start(program: str, *arguments: str) -> tuple[int, Callable[[], None]]:
    """Relay everything written to standard error through a program.

    Args:
        program: path of a Python file that needs only the standard library.
        arguments: its arguments.

    Returns:
        A copy of the original file, and a function that ends the relay.
    """
    original = os.dup(2)
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            # -I and -S: only the standard library, which starts sooner.
            [sys.executable, "-S", "-I", program, *arguments],
            stdin=reader,
            stdout=original,
            start_new_session=True,  # no Ctrl-C: it ends when all writers have ended
        )
    finally:
        os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)

    def end() -> None:
        os.dup2(original, 2)  # so that the relay has no writer any more
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    return original, end
