"""Hosts that are cut off in the middle of a job, and joined again: it is answered, and they go on.

Cut off means that packets vanish: nobody is told, and connections look whole to both sides.
"""

import time
from typing import Any

import numpy as np
from redis import Redis

from bertq import BertClient
from bertq.config import celery_config
from bertq.protocol import keys
from bertq.state import worker_info
from tests.chaos.leftovers import check_nothing_is_left, left
from tests.hosts.conftest import StartOn
from tests.hosts.network import Network
from tests.hosts.service import Asker, HostWorker, Server
from tests.waiting import eventually
from tests.workers import clocks
from tests.workers.clocks import done

CHUNKS = 24
COUNT = 256 * CHUNKS
ROWS = clocks.rows(clocks.sentences(COUNT))

#: Seconds within which a host works again that was cut off and is joined.
BACK = 40.0


def start_both(start_on: StartOn, batch_ms: float) -> list[HostWorker]:
    """Workers on two hosts, that take from a queue of the same name each."""
    return [start_on(name, batch_ms, "-Q", "cpu0") for name in ("a", "b")]


def is_idle(worker: HostWorker) -> bool:
    """Whether a worker has done nothing for as long as it needs for several chunks."""
    before = len(done(worker))
    time.sleep(2)
    return len(done(worker)) == before


def wait_until_all_work(asker: Asker, *workers: HostWorker) -> None:
    """Encode until each of the workers has done chunks of it."""
    before = [len(done(worker)) for worker in workers]

    def works() -> bool:
        asker.encode(COUNT)
        np.testing.assert_array_equal(asker.vectors(60), ROWS)
        return all(len(done(w)) > n for w, n in zip(workers, before, strict=True))

    eventually(works, BACK)


def test_a_workers_host_is_cut_off(
    network: Network, redis: Redis, start_on: StartOn, asker: Asker
) -> None:
    a, b = start_both(start_on, 300)
    assert [info.node for info in worker_info.read(redis)] == ["cpu0@a", "cpu0@b"]
    asker.encode(COUNT)
    eventually(lambda: len(done(a)) >= 2 and len(done(b)) >= 2)
    network.cut("a")
    # In the end only what a holds is not answered.
    eventually(lambda: redis.llen("bertq") == 0 and is_idle(b), 30)
    ids: Any = redis.hkeys(keys.UNACKED)
    held = {name.decode() for name in ids}
    assert held
    assert held.isdisjoint(done(b))
    assert not asker.has_answered()
    # By b alone: in 15 s and a sweep, says docs/reliability.md, and a slow machine's time.
    np.testing.assert_array_equal(asker.vectors(celery_config.VISIBILITY_TIMEOUT + 30), ROWS)
    assert held & set(done(b))
    eventually(lambda: [info.node for info in worker_info.read(redis)] == ["cpu0@b"])
    network.join("a")
    wait_until_all_work(asker, a)
    eventually(lambda: len(worker_info.read(redis)) == 2)
    assert a.process.poll() is None
    # What it held then was computed, and could not be acknowledged: it comes back, and is dropped.
    eventually(lambda: not left(redis), celery_config.VISIBILITY_TIMEOUT + 30)


def test_a_clients_host_is_cut_off(
    network: Network, server: Server, redis: Redis, start_on: StartOn, asker: Asker
) -> None:
    workers = start_both(start_on, 300)
    job_id = asker.submit(256 * 4)
    asker.encode(COUNT)
    eventually(lambda: len(done(*workers)) >= 4)
    network.cut("c")
    # The job that was left is done meanwhile, and so is what the client had sent.
    with BertClient(redis_url=server.seen(0), timeout=60) as other:
        np.testing.assert_array_equal(other.job(job_id).result(30), ROWS[: 256 * 4])
        other.job(job_id).discard()
    eventually(lambda: len(done(*workers)) == CHUNKS + 4, 30)
    assert not asker.has_answered()
    network.join("c")
    np.testing.assert_array_equal(asker.vectors(BACK), ROWS)
    assert len(done(*workers)) == CHUNKS + 4
    check_nothing_is_left(redis)


def test_the_host_of_redis_is_cut_off(
    network: Network, redis: Redis, start_on: StartOn, asker: Asker
) -> None:
    workers = start_both(start_on, 300)
    asker.encode(COUNT)
    eventually(lambda: len(done(*workers)) >= 4)
    network.cut("redis")
    # Long enough for all to notice, by the timeouts of their sockets.
    eventually(lambda: all("TimeoutError" in worker.log for worker in workers), 20)
    assert not asker.has_answered()
    network.join("redis")
    np.testing.assert_array_equal(asker.vectors(BACK + celery_config.VISIBILITY_TIMEOUT), ROWS)
    wait_until_all_work(asker, *workers)
    assert all(worker.process.poll() is None for worker in workers)
    check_nothing_is_left(redis)


def test_a_workers_host_comes_back_with_another_address(
    network: Network, redis: Redis, start_on: StartOn, asker: Asker
) -> None:
    # As behind a router that has forgotten its connections: those of before are never answered,
    # nor refused, again, and only the worker itself can find out.
    a, b = start_both(start_on, 100)
    asker.encode(COUNT)
    eventually(lambda: len(done(a)) >= 2 and len(done(b)) >= 2)
    network.cut("a")
    network.readdress("a", 99)
    network.join("a")
    np.testing.assert_array_equal(asker.vectors(celery_config.VISIBILITY_TIMEOUT + 30), ROWS)
    wait_until_all_work(asker, a)
    assert a.process.poll() is None
    # What it held then was computed, and could not be acknowledged: it comes back, and is dropped.
    eventually(lambda: not left(redis), celery_config.VISIBILITY_TIMEOUT + 30)
