"""Becomes another program that ends with the process that started it, whatever ends that.

Run as a script, ``python child.py PARENT SIGNAL PROGRAM ARGUMENT...``: of ``kill -9`` a parent
hears nothing, so the kernel is asked to do it. Linux only; elsewhere the program outlives a parent
that was killed, as any child does.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(parent: int, number: int, program: list[str]) -> None:
    """Arrange for the signal and execute the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            sys.exit(0)  # it has ended before the kernel was asked
    os.execv(program[0], program)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
