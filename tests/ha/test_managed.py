"""A managed failover: the name of the primary points to another server, and no Sentinels tell.

The old primary becomes a replica. Connections to it stay open, so the first refused write of each
must end it.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replicas import Cluster, Node
from bertq import BertClient
from bertq_client.context import ClientTimings
from tests.ha.conftest import StartCluster
from tests.hosts.port_forward import copy
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker, encoded_chunks

TEXTS = standins.sentences(256 * 12)


class Name:
    """A host name whose address can change: new connections reach another server.

    Attributes:
        port: where it listens.
        target: port of the server that new connections reach.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.connections: dict[int, int] = {}  # open ones, by port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)))
        self._thread.start()
        assert started.wait(30)

    async def _run(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self.target
        there, back = await asyncio.open_connection("127.0.0.1", port)
        self.connections[port] = self.connections.get(port, 0) + 1
        await asyncio.gather(copy(reader, back), copy(there, writer))
        self.connections[port] -= 1

    def close(self) -> None:
        """Stop listening, and end all connections."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@pytest.fixture
def servers(start_cluster: StartCluster) -> list[Node]:
    """A primary and a replica, without Sentinels."""
    cluster: Cluster = start_cluster(replicas=1, sentinels=0)
    return cluster.servers


@pytest.fixture
def name(servers: list[Node]) -> Iterator[Name]:
    with closing(Name(servers[0].port)) as made:
        yield made


def test_the_name_of_the_primary_moves(servers: list[Node], name: Name, tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{name.port}/0"
    worker = StandInWorker(url, tmp_path / "worker.log", 100)
    timings = ClientTimings(lost_after_seconds=2.0)
    try:
        worker.wait_ready()
        with BertClient(redis_url=url, timeout=90, _timings=timings) as client:
            future = client.encode_async(TEXTS)
            eventually(lambda: len(encoded_chunks(worker)) >= 2, 30)
            old, new = servers
            with new.connect() as redis:
                redis.replicaof("NO", "ONE")
            name.target = new.port
            with old.connect() as redis:
                redis.replicaof(*new.address)
            small = [client.encode_async(TEXTS[n : n + 3]) for n in range(5)]
            np.testing.assert_array_equal(future.result(90), standins.rows(TEXTS))
            for n, one in enumerate(small):
                np.testing.assert_array_equal(one.result(90), standins.rows(TEXTS[n : n + 3]))
            # a connection that nobody uses is left at its next use
            eventually(lambda: name.connections[old.port] <= 1, 60)
            np.testing.assert_array_equal(client.encode(TEXTS[:3]), standins.rows(TEXTS[:3]))
        assert worker.stop() == 0
    finally:
        worker.kill()
