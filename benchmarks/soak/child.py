"""A process of the soak, which ends with it, whatever ends that."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from bertq_cli.service import child

ROOT = Path(__file__).resolve().parents[2]
_PAGE = os.sysconf("SC_PAGE_SIZE")


def environment(url: str) -> dict[str, str]:
    """Return the environment without what would configure Celery or bertq, and with a Redis."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CELERY_", "BERTQ_"))}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**clean, "BERTQ_REDIS_URL": url, "PYTHONPATH": os.pathsep.join(paths)}


#: For clients: glibc asks the system for large blocks each time, and gives them back, where it
#: would otherwise learn to keep them. It tells what a client holds from what its allocator keeps.
PLAIN_HEAP = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2"}


def start(
    command: Sequence[str],
    environ: Mapping[str, str],
    log: IO[bytes],
    *,
    piped: bool = False,
    on_orphaned: signal.Signals = signal.SIGKILL,
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own; call it on the main thread.

    Args:
        command: the program and its arguments.
        environ: its environment.
        log: where it writes; standard output too, unless it is piped.
        piped: whether standard input and output are pipes.
        on_orphaned: what it gets when the soak has ended without ending it.
    """
    shim = [sys.executable, "-S", "-E", child.__file__, str(os.getpid()), str(int(on_orphaned))]
    return subprocess.Popen(
        [*shim, *command],
        env=environ,
        stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
        stdout=subprocess.PIPE if piped else log,
        stderr=log,
        # Ctrl-C is for the soak alone, which ends the others in order.
        start_new_session=True,
    )


def end(process: "subprocess.Popen[bytes]", retry: float = 0.0) -> int:
    """End a process for certain, with SIGTERM if there is patience; return its status."""
    if process.poll() is None and retry:
        process.terminate()
        try:
            return process.wait(retry)
        except subprocess.TimeoutExpired:
            pass
    if process.poll() is None:
        process.kill()
    return process.wait()


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has, or 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
