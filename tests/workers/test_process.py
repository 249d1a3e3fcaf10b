"""What a worker sets in its process."""

import subprocess
import sys

SCRIPT = """
import resource, sys
from bertq_workers import process

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        bytearray(b"a") * 800_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

process.tune()
faults()
print(faults(), sys.getswitchinterval())
"""


def test_freed_memory_is_used_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    faults, interval = done.stdout.split()
    assert int(faults) < 50 * 20  # 196 pages each time, where they come from the system
    assert float(interval) == 0.001
