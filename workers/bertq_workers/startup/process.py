"""Settings of the worker's process, and its memory use."""

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

from bertq.system import cores

#: Time for which a thread may keep the interpreter while other threads wait for it; 5 ms by
#: default. The threads of the chunks and the event loop work briefly and then wait for Redis: a
#: shorter interval gives 20 to 30 % more small messages per second, measured with 4,000 of them.
_SWITCH_INTERVAL_SECONDS = 0.001

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

#: Size from which a block is requested from the system each time, and size of the free memory that
#: the process retains. With the defaults, the rows of a chunk (786 KB in several copies) take 900
#: new pages: 3 ms of 8.
_MMAP_THRESHOLD_BYTES = 4 * 1024 * 1024
_RETAINED_BYTES = 64 * 1024 * 1024


def tune() -> None:
    """Prepare the interpreter and the allocator for many threads and large blocks."""
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    _glibc("mallopt", _M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    _glibc("mallopt", _M_TRIM_THRESHOLD, _RETAINED_BYTES)
    # One heap for each thread that can run. With a heap for each of a hundred threads, every one
    # would retain the memory of its largest chunk.
    _glibc("mallopt", _M_ARENA_MAX, max(2, cores.available()))


def trim() -> None:
    """Return the memory left over from loading: freed copies of the weights.

    For all-MiniLM-L6-v2 in float32 that is 80 of 770 MB.
    """
    gc.collect()
    _glibc("malloc_trim", 0)


def memory() -> int:
    """Return the bytes of main memory of the process: weights, arenas, the interpreter."""
    try:
        resident = Path("/proc/self/statm").read_text().split()[1]
    except (OSError, IndexError):
        return peak()  # not Linux
    return int(resident) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Return the peak of the process's main memory, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024  # KiB elsewhere


def _glibc(name: str, *arguments: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return  # another C library
    function(*arguments)
