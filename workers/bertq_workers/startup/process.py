"""A worker's process: what it sets once, before it loads anything, and what it weighs."""

import ctypes
import gc
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any

from celery.worker import state

from bertq.system import cores

log = logging.getLogger("bertq.worker")

#: Seconds for which a thread may keep the interpreter while others want it; 5 ms by default. The
#: threads of the chunks and the event loop do little at a time and wait for Redis in between: 20 to
#: 30 % more small messages per second, measured with 4,000 of them.
_SWITCH = 0.001

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

#: Bytes of a block that is asked of the system each time, and of free memory that is kept. By
#: default the rows of a chunk, 786 KB in several copies, come as 900 fresh pages: 3 ms of 8.
_MMAP_BYTES = 4 * 1024 * 1024
_KEPT_BYTES = 64 * 1024 * 1024


def tune() -> None:
    """Prepare the interpreter and the allocator for many threads and large blocks."""
    sys.setswitchinterval(_SWITCH)
    _glibc("mallopt", _M_MMAP_THRESHOLD, _MMAP_BYTES)
    _glibc("mallopt", _M_TRIM_THRESHOLD, _KEPT_BYTES)
    # A heap for each thread that can run, not for each of a hundred threads, of which every one
    # would keep what its largest chunk took.
    _glibc("mallopt", _M_ARENA_MAX, max(2, cores.available()))


def trim() -> None:
    """Give back what loading has left: TensorFlow's copies of the weights, in freed pieces.

    For all-MiniLM-L6-v2 in float32 that is 1.0 of 2.4 GB.
    """
    gc.collect()
    _glibc("malloc_trim", 0)


def memory() -> int:
    """Return the bytes of main memory that the process has: weights, arenas, the interpreter."""
    try:
        resident = Path("/proc/self/statm").read_text().split()[1]
    except (OSError, IndexError):
        return peak()  # not Linux
    return int(resident) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Return the most bytes of main memory that the process has had at once."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # KiB elsewhere


def _glibc(name: str, *arguments: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return  # another C library
    function(*arguments)


def leave(reason: str, status: int) -> None:
    """End a running worker, from any thread, as soon as it is done with what it has taken.

    Relies on the inside of celery 5.7 (the version is pinned, and tests/workers/test_claims.py
    looks at it): the consumer's loop turns ``state.should_stop`` into the exit status.

    Args:
        reason: for the log.
        status: of ``sysexits.h``.
    """
    log.critical("this worker ends: %s", reason)
    flags: Any = state
    flags.should_stop = status
