"""Clients that are killed, cancel or time out: Redis keeps nothing of them."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import Timeout
from bertq.protocol import time_to_live
from tests.chaos.leftovers import check_nothing_is_left
from tests.conftest import clean_environ
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import ROOT, StandInWorker, Start, encoded_chunks

TEXTS = standins.sentences(256 * 8)

_CLIENT = """
from bertq import BertClient
from tests.workers import standins
client = BertClient()
futures = [client.encode_async(standins.sentences(256 * 8)) for _ in range(2)]
futures.append(client.encode_async(["small"]))
print("sent", flush=True)
futures[0].result()
"""


def dropped_count(*workers: StandInWorker) -> int:
    """Count the chunks that workers have dropped because their job is over."""
    return sum(worker.log.count("dropped, its job is over") for worker in workers)


def test_a_client_is_killed(redis_url: str, redis: Redis, client: BertClient, start: Start) -> None:
    worker = start(200, "-Q", "cpu0")
    with subprocess.Popen(
        [sys.executable, "-c", _CLIENT],
        cwd=ROOT,
        env={**clean_environ(), "BERTQ_REDIS_URL": redis_url},
        stdout=subprocess.PIPE,
    ) as other:
        eventually(lambda: len(encoded_chunks(worker)) >= 3, 30)
        assert redis.llen("bertq")
        other.kill()
    # Its chunks are encoded until its jobs expire, and chunks of other clients are answered too.
    np.testing.assert_array_equal(client.encode(TEXTS[:600]), standins.rows(TEXTS[:600]))
    eventually(lambda: len(encoded_chunks(worker)) >= 16 + 1 + 3, 30)
    check_nothing_is_left(redis)
    # The killed client's results are in its reply stream, or have keys.
    stored = [*redis.scan_iter("bertq:reply:*"), *redis.scan_iter("celery-task-meta-*")]
    assert stored
    assert all(0 < redis.ttl(name) <= time_to_live.RESULT_SECONDS for name in stored)


def test_a_timeout_cancels_the_chunks(
    redis_url: str, redis: Redis, client: BertClient, start: Start
) -> None:
    worker = start(1000, "-Q", "cpu0")
    with (
        BertClient(redis_url=redis_url, timeout=1.5) as short_timeout_client,
        pytest.raises(Timeout, match=r"no answer within 1\.5 s: \d of 8 chunks are answered"),
    ):
        short_timeout_client.encode(TEXTS)
    np.testing.assert_array_equal(client.encode(TEXTS[:20]), standins.rows(TEXTS[:20]))
    eventually(lambda: dropped_count(worker) + len(encoded_chunks(worker)) == 8 + 1)
    assert dropped_count(worker) >= 4
    check_nothing_is_left(redis)


def test_every_worker_drops_cancelled_chunks(
    redis: Redis, client: BertClient, start: Start
) -> None:
    workers = [start(600, "-Q", f"cpu{number}") for number in range(2)]
    futures = [client.encode_async(TEXTS) for _ in range(4)]
    eventually(lambda: len(encoded_chunks(*workers)) >= 2, 30)
    for future in futures[:3]:
        assert future.cancel()
    np.testing.assert_array_equal(futures[3].result(60), standins.rows(TEXTS))
    eventually(lambda: dropped_count(*workers) + len(encoded_chunks(*workers)) == 32)
    assert dropped_count(*workers) > 12
    check_nothing_is_left(redis)


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_a_stopped_worker_returns_its_chunks_at_once(
    redis: Redis, client: BertClient, start: Start, signals: tuple[signal.Signals, ...]
) -> None:
    first, second = start(1500, "-Q", "cpu0"), start(1, "-Q", "cpu1")
    os.kill(second.process.pid, signal.SIGSTOP)
    future = client.encode_async(TEXTS)
    eventually(lambda: redis.hlen("unacked") == 2)
    os.kill(second.process.pid, signal.SIGCONT)
    eventually(lambda: len(encoded_chunks(second)) == 6)
    for number in signals:
        os.kill(first.process.pid, number)
    # Sooner than the 15 s after which chunks of a dead worker are redelivered.
    np.testing.assert_array_equal(future.result(10), standins.rows(TEXTS))
    first.process.wait(20)
    check_nothing_is_left(redis)
