"""Workers with the same node name: they warn, and all requests are answered."""

import numpy as np
from redis import Redis

from bertq.state import worker_info
from tests.chaos.leftovers import check_nothing_is_left
from tests.hosts.conftest import StartOn
from tests.hosts.network import Network
from tests.hosts.service import RemoteClient
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import encoded_chunks

COUNT = 256 * 8
ROWS = standins.rows(standins.sentences(COUNT))


def test_two_hosts_with_the_same_name(
    network: Network, redis: Redis, start_on: StartOn, remote_client: RemoteClient
) -> None:
    for name in ("a", "b"):
        network.hosts[name].rename("gpu-box")
    first = start_on("a", 100, "-Q", "cpu0")
    second = start_on("b", 100, "-Q", "cpu0")
    second.wait_for_log("another worker named cpu0@gpu-box is alive")
    assert [info.node for info in worker_info.read(redis)] == ["cpu0@gpu-box"]
    remote_client.encode(COUNT)
    np.testing.assert_array_equal(remote_client.vectors(60), ROWS)
    eventually(lambda: encoded_chunks(first) and encoded_chunks(second))
    # After the end of one worker, the other is listed again and does all the work.
    assert second.stop() == 0
    eventually(lambda: [a.pid for a in worker_info.read(redis)] == [first.process.pid])
    remote_client.encode(COUNT)
    np.testing.assert_array_equal(remote_client.vectors(60), ROWS)
    check_nothing_is_left(redis)


def test_workers_with_different_names(
    network: Network, redis: Redis, start_on: StartOn, remote_client: RemoteClient
) -> None:
    for name in ("a", "b"):
        network.hosts[name].rename("gpu-box")
        start_on(name, 100, "-Q", "cpu0", "-n", f"cpu0@{name}")
    assert [info.node for info in worker_info.read(redis)] == ["cpu0@a", "cpu0@b"]
    remote_client.encode(COUNT)
    np.testing.assert_array_equal(remote_client.vectors(60), ROWS)
