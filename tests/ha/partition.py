"""A client and a worker whose Redis is on three hosts, of which the test cuts one off.

Usage: ``python -m tests.ha.partition DIRECTORY HOSTS``, on one of the hosts; ``HOSTS`` is JSON with
the address of each and the command that runs a program on it. It writes ``cut`` when the host of
the primary, the first, must be cut off, and waits for a line. At the end it writes ``done``.
"""

import json
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.replicas import Cluster, Host
from bertq import BertClient
from bertq_client.context import ClientTimings
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import QuickWorker, encoded_chunks

TEXTS = standins.sentences(256 * 12)
ROWS = standins.rows(TEXTS)


def tell(what: str) -> None:
    """Write a line for the test."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main(directory: Path, hosts: list[Host]) -> None:
    """Run requests while the primary is cut off."""
    options = {"min-replicas-to-write": 1, "min-replicas-max-lag": 2}
    cluster = Cluster(directory / "cluster", down_after_ms=1000, config=options, hosts=hosts)
    timings = ClientTimings(lost_after_seconds=2.0)
    with closing(cluster):
        cluster.start()
        worker = QuickWorker(cluster.url, directory / "worker.log", 200)
        try:
            worker.wait_ready()
            with BertClient(redis_url=cluster.url, timeout=90, _timings=timings) as client:
                future = client.encode_async(TEXTS)
                eventually(lambda: len(encoded_chunks(worker)) >= 2, 30)
                old = cluster.servers[0]
                tell("cut")
                sys.stdin.readline()
                small = client.encode_async(TEXTS[:3])
                cluster.wait_for_promotion(old)
                np.testing.assert_array_equal(future.result(90), ROWS)
                np.testing.assert_array_equal(small.result(90), ROWS[:3])
                np.testing.assert_array_equal(client.encode(TEXTS[:3]), ROWS[:3])
        finally:
            worker.kill()
    tell("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Host(address, enter) for address, enter in json.loads(sys.argv[2])])
