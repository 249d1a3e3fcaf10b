from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from tests.hosts.network import Network, Unavailable
from tests.hosts.service import HostWorker, RemoteClient, Server

HOSTS = ("redis", "a", "b", "c")

#: Starts a worker on a host, with options of ``celery worker``.
StartOn = Callable[..., HostWorker]


@pytest.fixture
def network() -> Iterator[Network]:
    """Hosts that a test can cut off and join again."""
    try:
        made = Network(HOSTS)
    except Unavailable as error:
        pytest.skip(f"no hosts can be made of namespaces here: {error}")
    with closing(made):
        yield made


@pytest.fixture
def server(network: Network, tmp_path: Path) -> Iterator[Server]:
    """Redis, on the host ``redis``."""
    directory = tmp_path / "redis"
    directory.mkdir()
    with closing(Server(network.hosts["redis"], directory)) as started:
        started.wait_ready()
        yield started


@pytest.fixture
def redis(server: Server) -> Iterator[Redis]:
    """A connection to Redis that works while hosts are cut off."""
    with Redis.from_url(server.forwarded_url(0)) as connection:
        yield connection


@pytest.fixture
def start_on(network: Network, server: Server, tmp_path: Path) -> Iterator[StartOn]:
    """Start workers on hosts; they end with the test."""
    workers: list[HostWorker] = []

    def start(name: str, batch_ms: float, *options: str) -> HostWorker:
        log = tmp_path / f"{name}-{len(workers)}.log"
        urls = server.url(0), server.forwarded_url(0)
        workers.append(HostWorker(network.hosts[name], *urls, log, batch_ms, *options))
        workers[-1].wait_ready()
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def remote_client(network: Network, server: Server, tmp_path: Path) -> Iterator[RemoteClient]:
    """A client on host c."""
    with closing(RemoteClient(network.hosts["c"], server.url(0), tmp_path)) as started:
        yield started
