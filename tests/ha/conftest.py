import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.replicas import Cluster
from bertq import BertClient
from bertq_client.context import ClientTimings
from tests.workers.standins import QuickWorker, Start, starter

#: Starts servers and Sentinels; they end with the test.
StartCluster = Callable[..., Cluster]


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Start a primary, its replicas and Sentinels, with arguments of ``Cluster``."""
    started: list[Cluster] = []

    def start(**options: object) -> Cluster:
        cluster = Cluster(tmp_path / f"cluster-{len(started)}", **options)  # type: ignore[arg-type]
        started.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in started:
        cluster.close()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, start_cluster: StartCluster) -> Cluster:
    """A primary, two replicas and three Sentinels: the embedded server, or an installed Redis."""
    if getattr(request, "param", "valkey-server") == "valkey-server":
        return start_cluster(down_after_ms=1000)
    installed = shutil.which(request.param)
    if installed is None:
        pytest.skip(f"no {request.param} is installed")
    return start_cluster(down_after_ms=1000, binary=Path(installed))


@pytest.fixture
def start(cluster: Cluster, tmp_path: Path) -> Iterator[Start]:
    """Start stand-in workers with a short visibility timeout."""
    yield from starter(QuickWorker, cluster.url, tmp_path)


@pytest.fixture
def client(cluster: Cluster) -> Iterator[BertClient]:
    timings = ClientTimings(lost_after_seconds=2.0, replica_seconds=2.0)
    with closing(BertClient(redis_url=cluster.url, timeout=90, _timings=timings)) as made:
        yield made
