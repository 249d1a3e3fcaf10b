"""Run a command, end it with SIGTERM after a time, and write what survives it.

Run as a script, ``python survivors.py SECONDS PROGRAM ARGUMENT...``. Writes the command lines of
the descendants of the program that still run 5 s after its end, one on each line. Linux only.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>

#: Seconds that the descendants have to end.
_GRACE_SECONDS = 5.0


def adopted() -> dict[int, str]:
    """Return the children of this process that run, by id: orphans become its children."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (directory / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state not in "XZ":
                line = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(directory.name)] = line.decode(errors="replace")
    return found


def main(seconds: float, command: list[str]) -> None:
    """Run the command and end it; kill what survives."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno())
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    process.wait()
    deadline = time.monotonic() + _GRACE_SECONDS
    while (survivors := adopted()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid, line in survivors.items():
        sys.stdout.write(f"{line}\n")
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
