"""Processes of the soak test, which end with it, even if it is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from bertq_cli.service import child as launcher

ROOT = Path(__file__).resolve().parents[2]
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def clean_environment(url: str) -> dict[str, str]:
    """Return the environment with the address of Redis as the only setting of Celery or bertq."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CELERY_", "BERTQ_"))}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**clean, "BERTQ_REDIS_URL": url, "PYTHONPATH": os.pathsep.join(paths)}


#: For clients: glibc returns large blocks to the system at once, so that the resident memory is
#: that of the client, without blocks that its allocator caches.
MALLOC_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2"}


def start_process(
    command: Sequence[str],
    environ: Mapping[str, str],
    log: IO[bytes],
    *,
    has_pipes: bool = False,
    orphan_signal: signal.Signals = signal.SIGKILL,
) -> "subprocess.Popen[bytes]":
    """Start a program in a new session; call this from the main thread.

    Args:
        command: the program and its arguments.
        environ: its environment.
        log: where it writes; standard output too, unless it is piped.
        has_pipes: whether standard input and output are pipes.
        orphan_signal: the signal that it gets if the soak test is killed.
    """
    command_line = [
        sys.executable,
        "-S",
        "-E",
        launcher.__file__,
        str(os.getpid()),
        str(int(orphan_signal)),
    ]
    return subprocess.Popen(
        [*command_line, *command],
        env=environ,
        stdin=subprocess.PIPE if has_pipes else subprocess.DEVNULL,
        stdout=subprocess.PIPE if has_pipes else log,
        stderr=log,
        # Ctrl-C reaches the soak test only, which ends the other processes in order.
        start_new_session=True,
    )


def end_process(process: "subprocess.Popen[bytes]", timeout_seconds: float = 0.0) -> int:
    """End a process, by SIGTERM if there is a timeout and then by SIGKILL; return its status."""
    if process.poll() is None and timeout_seconds:
        process.terminate()
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            pass
    if process.poll() is None:
        process.kill()
    return process.wait()


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes, or 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0
