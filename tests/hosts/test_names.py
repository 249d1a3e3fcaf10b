"""Hosts of one name: two workers of one name hide each other, and say so; the work is done."""

import numpy as np
from redis import Redis

from bertq.state import worker_info
from tests.chaos.leftovers import check_nothing_is_left
from tests.hosts.conftest import StartOn
from tests.hosts.network import Network
from tests.hosts.service import Asker
from tests.waiting import eventually
from tests.workers import clocks
from tests.workers.clocks import done

COUNT = 256 * 8
ROWS = clocks.rows(clocks.sentences(COUNT))


def test_two_hosts_of_one_name(
    network: Network, redis: Redis, start_on: StartOn, asker: Asker
) -> None:
    for name in ("a", "b"):
        network.hosts[name].rename("gpu-box")
    first = start_on("a", 100, "-Q", "cpu0")
    second = start_on("b", 100, "-Q", "cpu0")
    told = "another worker named cpu0@gpu-box is alive"
    eventually(lambda: told in second.log)
    assert [info.node for info in worker_info.read(redis)] == ["cpu0@gpu-box"]
    asker.encode(COUNT)
    np.testing.assert_array_equal(asker.vectors(60), ROWS)
    assert min(len(done(first)), len(done(second))) > 0
    # One of them ends: the other is seen again, and does all the work.
    assert second.stop() == 0
    eventually(lambda: [a.pid for a in worker_info.read(redis)] == [first.process.pid])
    asker.encode(COUNT)
    np.testing.assert_array_equal(asker.vectors(60), ROWS)
    check_nothing_is_left(redis)


def test_a_name_of_ones_own(
    network: Network, redis: Redis, start_on: StartOn, asker: Asker
) -> None:
    for name in ("a", "b"):
        network.hosts[name].rename("gpu-box")
        start_on(name, 100, "-Q", "cpu0", "-n", f"cpu0@{name}")
    assert [info.node for info in worker_info.read(redis)] == ["cpu0@a", "cpu0@b"]
    asker.encode(COUNT)
    np.testing.assert_array_equal(asker.vectors(60), ROWS)
