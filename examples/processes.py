"""Several processes: each with a client of its own, or with one that was made before a fork.

A client belongs to its process. New processes (``spawn``) make one each. In a forked child the copy
of its parent's client is a client of its own: it connects by itself, and disturbs nobody.

Run a service, then the script::

    bertq serve --model-dir DIR
    python examples/processes.py --processes 4
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from bertq import BertClient

#: Of this process: a child that is forked has a copy, one that is spawned begins without.
client: BertClient | None = None


def begin() -> None:
    """Make the client of a spawned child."""
    global client
    client = BertClient()


def encode(texts: list[str]) -> tuple[int, Any]:
    """Encode in a child; return its process id and the vectors."""
    assert client is not None
    return os.getpid(), client.encode(texts)


def run(pool: ProcessPoolExecutor, parts: list[list[str]], expected: Any) -> None:
    """Let the children of a pool encode the parts, and compare their vectors with the parent's."""
    with pool:
        results = list(pool.map(encode, parts))
    for pid, vectors in results:
        print(f"  process {pid}: vectors {vectors.shape}")
    together = np.concatenate([vectors for _, vectors in results])
    print(f"  same as the parent's: {np.allclose(together, expected, atol=1e-5)}")


def main() -> None:
    """Encode the same sentences in the parent, in spawned children and in forked ones."""
    global client
    parser = argparse.ArgumentParser(description="Encode in several processes.")
    parser.add_argument("--processes", type=int, default=4)
    count = parser.parse_args().processes
    parts = [[f"sentence {n} of part {part}" for n in range(100)] for part in range(count)]

    with BertClient() as client:
        expected = client.encode([text for part in parts for text in part])  # it is connected now
        print(f"parent {os.getpid()}: vectors {expected.shape}")

        print("a client in each process:")
        spawn = multiprocessing.get_context("spawn")
        run(ProcessPoolExecutor(count, spawn, initializer=begin), parts, expected)

        print("a client that was made before the fork:")
        fork = multiprocessing.get_context("fork")
        run(ProcessPoolExecutor(count, fork), parts, expected)

        print(f"parent {os.getpid()}: still works, vectors {client.encode(['the end']).shape}")


if __name__ == "__main__":
    main()
