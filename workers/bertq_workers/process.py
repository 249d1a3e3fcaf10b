"""What a worker's process sets once, before it loads anything."""

import ctypes
import sys

#: Seconds for which a thread may keep the interpreter while others want it; 5 ms by default. The
#: threads of the chunks and the event loop do little at a time and wait for Redis in between: 20 to
#: 30 % more small messages per second, measured with 4,000 of them.
_SWITCH = 0.001

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

#: Bytes of a block that is asked of the system each time, and of free memory that is kept. By
#: default the rows of a chunk, 786 KB in several copies, come as 900 fresh pages: 3 ms of 8.
_MMAP_BYTES = 4 * 1024 * 1024
_KEPT_BYTES = 64 * 1024 * 1024


def tune() -> None:
    """Prepare the interpreter and the allocator for many threads and large blocks."""
    sys.setswitchinterval(_SWITCH)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # not glibc
    mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
