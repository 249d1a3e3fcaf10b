"""Lines that TensorFlow's C++ code writes while it is imported, and that say nothing of use.

It writes them regardless of ``TF_CPP_MIN_LOG_LEVEL``. This module is also a program: a small
process that removes such lines from a worker's standard error while TensorFlow starts. It is run by
its path and uses only the standard library; the argument ``cpu`` also removes lines about CUDA.
"""

import os
import re
import signal
import sys

#: The header of absl's log, lines of level INFO, and the second line of one of them. Each plugin of
#: CUDA is registered twice in some versions, which is logged as an error.
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|I\d{4} \d\d:\d\d:"
    rb"|[\d-]+ [\d:.]+: I "
    rb"|To enable the following instructions:"
    rb"|.*Unable to register cu\w+ factory"
)

_CUDA = re.compile(rb".*(cuInit|cuda_diagnostics\.cc|cuda_platform\.cc|cudart_stub\.cc)")


def is_noise(line: bytes, *, has_gpu: bool) -> bool:
    """Return whether a line is to be removed."""
    return bool(_NOISE.match(line) or (not has_gpu and _CUDA.match(line)))


def main() -> None:
    """Copy standard input to standard output without these lines, ignoring signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    has_gpu = sys.argv[1] != "cpu"
    for line in sys.stdin.buffer:
        if not is_noise(line, has_gpu=has_gpu):
            os.write(1, line)


if __name__ == "__main__":
    main()
