"""Hosts that are cut off in the middle of a job and joined again: the job is answered.

Cut off means that packets are lost: neither side gets an error, and connections seem to work.
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
from tests.hosts.service import HostWorker, RemoteClient, Server
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import encoded_chunks

CHUNKS = 24
COUNT = 256 * CHUNKS
ROWS = standins.rows(standins.sentences(COUNT))

#: Seconds within which a host that is joined again must work.
RECOVERY_SECONDS = 40.0

#: Seconds within which chunks of a worker that is cut off must be redelivered and encoded.
REDELIVERY_SECONDS = celery_config.VISIBILITY_TIMEOUT_SECONDS + 30


def start_both(start_on: StartOn, batch_ms: float) -> list[HostWorker]:
    """Start workers with the same options on two hosts."""
    return [start_on(name, batch_ms, "-Q", "cpu0") for name in ("a", "b")]


def is_idle(worker: HostWorker) -> bool:
    """Whether a worker encodes nothing for as long as several chunks take."""
    before = len(encoded_chunks(worker))
    time.sleep(2)
    return len(encoded_chunks(worker)) == before


def wait_until_all_work(remote_client: RemoteClient, *workers: HostWorker) -> None:
    """Encode until each of the workers has encoded some of the chunks."""
    before = [len(encoded_chunks(worker)) for worker in workers]

    def works() -> bool:
        remote_client.encode(COUNT)
        np.testing.assert_array_equal(remote_client.vectors(60), ROWS)
        return all(len(encoded_chunks(w)) > n for w, n in zip(workers, before, strict=True))

    eventually(works, RECOVERY_SECONDS)


def test_a_workers_host_is_cut_off(
    network: Network, redis: Redis, start_on: StartOn, remote_client: RemoteClient
) -> None:
    a, b = start_both(start_on, 300)
    assert [info.node for info in worker_info.read(redis)] == ["cpu0@a", "cpu0@b"]
    remote_client.encode(COUNT)
    eventually(lambda: len(encoded_chunks(a)) >= 2 and len(encoded_chunks(b)) >= 2)
    network.cut("a")
    # In the end only the chunks of worker a are not answered.
    eventually(lambda: redis.llen("bertq") == 0 and is_idle(b), 30)
    ids: Any = redis.hkeys(keys.UNACKED)
    unacknowledged = {name.decode() for name in ids}
    assert unacknowledged
    assert unacknowledged.isdisjoint(encoded_chunks(b))
    assert not remote_client.has_answered()
    # Worker b encodes them after 15 s and a sweep, as docs/reliability.md says.
    np.testing.assert_array_equal(
        remote_client.vectors(celery_config.VISIBILITY_TIMEOUT_SECONDS + 30), ROWS
    )
    eventually(lambda: unacknowledged & set(encoded_chunks(b)))
    eventually(lambda: [info.node for info in worker_info.read(redis)] == ["cpu0@b"])
    network.join("a")
    wait_until_all_work(remote_client, a)
    eventually(lambda: len(worker_info.read(redis)) == 2)
    assert a.process.poll() is None
    # It could not acknowledge the chunks that it computed then: they are redelivered and dropped.
    eventually(lambda: not left(redis), REDELIVERY_SECONDS)


def test_a_clients_host_is_cut_off(
    network: Network, server: Server, redis: Redis, start_on: StartOn, remote_client: RemoteClient
) -> None:
    workers = start_both(start_on, 300)
    job_id = remote_client.submit(256 * 4)
    remote_client.encode(COUNT)
    eventually(lambda: len(encoded_chunks(*workers)) >= 4)
    network.cut("c")
    # Workers finish the durable job and the chunks that the client had sent.
    with BertClient(redis_url=server.forwarded_url(0), timeout=60) as other:
        np.testing.assert_array_equal(other.job(job_id).result(30), ROWS[: 256 * 4])
        other.job(job_id).discard()
    eventually(lambda: len(encoded_chunks(*workers)) == CHUNKS + 4, 30)
    assert not remote_client.has_answered()
    network.join("c")
    np.testing.assert_array_equal(remote_client.vectors(RECOVERY_SECONDS), ROWS)
    assert len(encoded_chunks(*workers)) == CHUNKS + 4
    check_nothing_is_left(redis)


def test_the_host_of_redis_is_cut_off(
    network: Network, redis: Redis, start_on: StartOn, remote_client: RemoteClient
) -> None:
    workers = start_both(start_on, 300)
    remote_client.encode(COUNT)
    eventually(lambda: len(encoded_chunks(*workers)) >= 4)
    network.cut("redis")
    # Cut off until the sockets of all workers have timed out.
    eventually(lambda: all("TimeoutError" in worker.log for worker in workers), 20)
    assert not remote_client.has_answered()
    network.join("redis")
    seconds = RECOVERY_SECONDS + celery_config.VISIBILITY_TIMEOUT_SECONDS
    np.testing.assert_array_equal(remote_client.vectors(seconds), ROWS)
    wait_until_all_work(remote_client, *workers)
    assert all(worker.process.poll() is None for worker in workers)
    check_nothing_is_left(redis)


def test_a_workers_host_comes_back_with_another_address(
    network: Network, redis: Redis, start_on: StartOn, remote_client: RemoteClient
) -> None:
    # As behind a router that has lost its table of connections: the old connections get neither
    # answers nor errors, so the worker itself must notice.
    a, b = start_both(start_on, 100)
    remote_client.encode(COUNT)
    eventually(lambda: len(encoded_chunks(a)) >= 2 and len(encoded_chunks(b)) >= 2)
    network.cut("a")
    network.change_address("a", 99)
    network.join("a")
    np.testing.assert_array_equal(
        remote_client.vectors(celery_config.VISIBILITY_TIMEOUT_SECONDS + 30), ROWS
    )
    wait_until_all_work(remote_client, a)
    assert a.process.poll() is None
    # It could not acknowledge the chunks that it computed then: they are redelivered and dropped.
    eventually(lambda: not left(redis), REDELIVERY_SECONDS)
