from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from tests.hosts.network import Network, Unavailable
from tests.hosts.service import Asker, HostWorker, Server

HOSTS = ("redis", "a", "b", "c")

#: Starts a worker on the host of that name, with options of Celery's.
StartOn = Callable[..., HostWorker]


@pytest.fixture
def network() -> Iterator[Network]:
    """Hosts that are cut off and joined."""
    try:
        made = Network(HOSTS)
    except Unavailable as error:
        pytest.skip(f"no hosts can be made of namespaces here: {error}")
    with closing(made):
        yield made


@pytest.fixture
def server(network: Network, tmp_path: Path) -> Iterator[Server]:
    """Redis, on the host of that name."""
    directory = tmp_path / "redis"
    directory.mkdir()
    with closing(Server(network.hosts["redis"], directory)) as started:
        started.wait_ready()
        yield started


@pytest.fixture
def redis(server: Server) -> Iterator[Redis]:
    """A look into Redis that no cut disturbs."""
    with Redis.from_url(server.seen(0)) as connection:
        yield connection


@pytest.fixture
def start_on(network: Network, server: Server, tmp_path: Path) -> Iterator[StartOn]:
    """Start workers on hosts; they end with the test."""
    workers: list[HostWorker] = []

    def start(name: str, batch_ms: float, *options: str) -> HostWorker:
        log = tmp_path / f"{name}-{len(workers)}.log"
        where = network.hosts[name], server.url(0), server.seen(0)
        workers.append(HostWorker(*where, log, batch_ms, *options))
        workers[-1].wait_ready()
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def asker(network: Network, server: Server, tmp_path: Path) -> Iterator[Asker]:
    """A client on host c."""
    with closing(Asker(network.hosts["c"], server.url(0), tmp_path)) as started:
        yield started
