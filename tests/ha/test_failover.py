"""The primary fails in the middle of requests, and a replica without the latest writes takes over.

All requests are answered, with the right rows.
"""

import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replicas import Cluster
from bertq import BertClient
from bertq.errors import RedisUnavailable, UnknownJob
from bertq.protocol import keys
from bertq_client.futures import EncodeFuture
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker, Start, encoded_chunks

TEXTS = standins.sentences(256 * 12)
ROWS = standins.rows(TEXTS)


def encode_small(client: BertClient, count: int) -> "list[EncodeFuture]":
    """Send requests of three sentences each."""
    return [client.encode_async(TEXTS[n : n + 3]) for n in range(count)]


def check_small(futures: "list[EncodeFuture]") -> None:
    """Check the answers to ``encode_small``."""
    for n, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(90), ROWS[n : n + 3])


@pytest.mark.parametrize("cluster", ["valkey-server", "redis-server"], indirect=True)
def test_the_latest_writes_are_lost(cluster: Cluster, client: BertClient, start: Start) -> None:
    worker = start(100)
    client.encode(["before"])
    cluster.replicate()
    cluster.cut_replicas()
    future = client.encode_async(TEXTS)
    small = encode_small(client, 5)
    eventually(lambda: len(encoded_chunks(worker)) >= 3, 30)
    assert not future.done()
    cluster.kill_primary()
    after = encode_small(client, 5)
    np.testing.assert_array_equal(future.result(90), ROWS)
    check_small(small)
    check_small(after)


def test_an_old_primary_returns(cluster: Cluster, client: BertClient, start: Start) -> None:
    start(500)
    future = client.encode_async(TEXTS)
    old = cluster.freeze_primary()
    old.send(signal.SIGCONT)
    # The client is still connected to it, and it accepts all writes until the Sentinels have made
    # it a replica.
    small = encode_small(client, 5)
    np.testing.assert_array_equal(future.result(90), ROWS)
    check_small(small)
    cluster.wait_ready()
    check_small(encode_small(client, 5))


def test_durable_jobs(cluster: Cluster, client: BertClient, start: Start) -> None:
    start(50)
    job = client.submit(TEXTS)
    cluster.kill_primary()
    np.testing.assert_array_equal(job.result(90), ROWS)
    cluster.cut_replicas()
    lost = client.submit(TEXTS).id  # accepted: the primary has no replica that could have it
    cluster.kill_primary()
    with pytest.raises(UnknownJob):
        client.job(lost).result(90)


def test_a_claim_is_lost(cluster: Cluster, client: BertClient, tmp_path: Path) -> None:
    # With the usual interval, the registration notices it after the worker has connected.
    worker = StandInWorker(cluster.url, tmp_path / "worker.log", 10)
    try:
        worker.wait_ready()
        lose_claim(cluster)
        future = client.encode_async(["nobody may answer this"])
        worker.wait_for_log("is now claimed by another model")
        assert worker.process.wait(60) == 69
        assert not encoded_chunks(worker)
        assert not future.done()
        future.cancel()
    finally:
        worker.kill()


def lose_claim(cluster: Cluster) -> None:
    """Promote a replica at which another model has the claims."""
    cluster.replicate()
    cluster.cut_replicas()
    for node in cluster.servers[1:]:
        with node.connect() as redis:
            redis.config_set("replica-read-only", "no")
            for queue in ("bertq", "bertq.small"):
                redis.set(keys.claim(queue), "another model", ex=60)
    cluster.kill_primary()


def test_a_job_waits_for_a_replica(cluster: Cluster, client: BertClient) -> None:
    assert client.submit(TEXTS[:3]).discard()
    for node in cluster.servers[1:]:
        node.send(signal.SIGSTOP)
    with pytest.raises(RedisUnavailable, match="replica"):
        client.submit(TEXTS[:3])
    assert client.jobs() == []
