"""Process settings of a worker."""

import subprocess
import sys

import numpy as np

from bertq.system import cores
from bertq_workers.startup import process

SCRIPT = """
import resource, sys
from bertq_workers.startup import process

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


TRIM = """
from bertq_workers.startup import process

process.tune()
blocks = [bytearray(b"a") * 300_000 for _ in range(1000)]
del blocks[:-1]  # the last one prevents that the heap shrinks
held = process.memory()
process.trim()
print(held - process.memory())
"""


def test_freed_memory_is_returned_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRIM], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) > 200 * 2**20


def test_memory_is_what_the_process_holds() -> None:
    before = process.memory()
    block = np.ones(8 * 2**20)  # 64 MiB
    grown = process.memory() - before
    assert 0.9 * block.nbytes < grown < 1.5 * block.nbytes
    assert before > 20 * 2**20  # Python and numpy alone


HEAPS = """
import ctypes, os, threading
from bertq_workers.startup import process

process.tune()
glibc = ctypes.CDLL(None)
glibc.malloc.restype = ctypes.c_void_p
glibc.fdopen.restype = ctypes.c_void_p
together = threading.Barrier(20)

def work():
    together.wait()
    glibc.malloc(100_000)
    together.wait()

threads = [threading.Thread(target=work) for _ in range(20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
report = ctypes.c_void_p(glibc.fdopen(os.dup(1), b"w"))
glibc.malloc_info(0, report)
glibc.fclose(report)
"""


def test_threads_share_heaps() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEAPS], capture_output=True, text=True, timeout=60, check=True
    )
    heaps = done.stdout.count("<heap nr=")
    assert 1 < heaps <= max(2, cores.available())
