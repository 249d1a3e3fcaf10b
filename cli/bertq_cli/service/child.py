"""Launcher of a program that ends when the process that started it ends.

Run as a script, ``python child.py PARENT SIGNAL PROGRAM ARGUMENT...``. A parent cannot react to
``kill -9``, so the kernel sends the signal to the program. Linux only; elsewhere the program
outlives a killed parent, as any child does.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def launcher(number: int) -> list[str]:
    """Return the start of a command line, before the program's absolute path and arguments.

    Args:
        number: the signal that the program gets when this process ends.
    """
    return [sys.executable, "-S", "-E", __file__, str(os.getpid()), str(int(number))]


def main(parent: int, number: int, program: list[str]) -> None:
    """Request the signal from the kernel and execute the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            sys.exit(0)  # it ended before the request
    os.execv(program[0], program)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
