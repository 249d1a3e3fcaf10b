"""Workers with a bug: they return their messages, or end with the reason."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from celery.utils.nodenames import gethostname
from redis import Redis

from bertq import BertClient
from bertq.errors import RemoteError
from bertq.protocol import keys
from bertq.state import worker_info
from bertq_workers.background.durable_job_monitor import DurableJobMonitor, active_jobs
from bertq_workers.background.registration import Registration
from bertq_workers.observability.meter import Meter
from tests.client.stub import info
from tests.conftest import WorkerProcess
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.broken import SECRET
from tests.workers.standins import StandInWorker, Start

#: Starts a worker with a bug in a part.
StartBroken = Callable[[str], StandInWorker]

TEXTS = [f"{SECRET} {text}" for text in standins.sentences(600)]


@pytest.fixture
def start_broken(redis_url: str, tmp_path: Path) -> Iterator[StartBroken]:
    """Start workers with a bug in a part."""
    workers: list[StandInWorker] = []

    def make(part: str) -> StandInWorker:
        class BrokenWorker(StandInWorker):
            program = ("-m", "tests.workers.broken", part)

        log = tmp_path / f"broken-{len(workers)}.log"
        workers.append(BrokenWorker(redis_url, log, 20, "-Q", "cpu0"))
        return workers[-1]

    yield make
    for worker in workers:
        worker.kill()


def test_values_that_bertq_has_not_written_end_no_thread(redis: Redis, redis_url: str) -> None:
    redis.set(keys.MONITOR, b"\xff", ex=1)
    redis.zadd(keys.DURABLE_JOBS, {b"\xff": 1, b"a": 2, b"b": 3, b"c": 4})
    for job, sent, number in (("a", "x", "1"), ("b", "1", "x"), ("c", "1", "1")):
        redis.hset(keys.job(job), mapping={"state": "active", "queue": b"\xff", "next": sent})
        redis.hset(keys.messages(job), number, "message")
    monitor = DurableJobMonitor(redis_url)
    for _ in range(2):
        monitor.check(redis)
        redis.delete(keys.MONITOR)
    assert [job.id for job in active_jobs(redis, ["a", "b", "c"])] == []

    mine = dataclasses.replace(info(["bertq"]), node=f"cpu0@{gethostname()}")
    redis.set(keys.claim("bertq"), b"\xff", ex=1)
    ended: list[str] = []
    registration = Registration(redis_url, mine, Meter(), ended.append, print, 0.1)
    registration.publish()
    registration.start()
    eventually(lambda: ended)
    assert ended[0].startswith("queue bertq is now claimed by another model")
    registration.stop()

    redis.delete(keys.claim("bertq"))
    worker_info.publish(redis, dataclasses.replace(mine, pid=2**70))
    registration = Registration(redis_url, mine, Meter(), print, print, 0.1)
    registration.publish()
    registration.start()
    eventually(lambda: worker_info.read(redis)[0].pid == mine.pid)
    registration.stop()


def check_ended(worker: WorkerProcess, part: str) -> None:
    """Check that a worker has ended because of an error, with the reason and without texts."""
    assert worker.process.wait(30) == os.EX_SOFTWARE
    assert f"this worker ends: {part} failed (TypeError)" in worker.log
    assert worker.log.count(f"{part} failed:") == 1
    assert 'broken.py", line' in worker.log  # the traceback
    assert SECRET not in worker.log


@pytest.mark.parametrize(
    ("part", "thread"),
    [
        ("heartbeat", "bertq-heartbeat"),
        ("registration", "bertq-registration"),
        ("monitor", "bertq-job-monitor"),
    ],
)
def test_a_bug_in_a_background_thread_ends_the_worker(
    client: BertClient, start: Start, start_broken: StartBroken,
    part: str, thread: str,
) -> None:  # fmt: skip
    future = client.encode_async(TEXTS)
    broken = start_broken(part)
    check_ended(broken, f"thread {thread}")
    start(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS))


@pytest.mark.parametrize(
    ("part", "thread", "rows"),
    [
        ("lane", "bertq-lane-0", 3),
        ("group", "bertq-chunk-0", 3),
        ("pool_thread", "bertq-chunk-0", 20),
    ],
)
def test_a_bug_in_a_thread_that_computes_ends_the_worker_at_once(
    client: BertClient, start: Start, start_broken: StartBroken,
    part: str, thread: str, rows: int,
) -> None:  # fmt: skip
    future = client.encode_async(TEXTS[:rows])
    broken = start_broken(part)
    check_ended(broken, f"thread {thread}")
    start(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS[:rows]))


def test_a_worker_whose_device_is_lost_fails_no_chunks(
    client: BertClient, start: Start, start_broken: StartBroken
) -> None:
    future = client.encode_async(TEXTS)
    broken = start_broken("graph")
    assert broken.process.wait(30) == os.EX_SOFTWARE
    assert "this worker ends: the graph computes no batch any more (TypeError)" in broken.log
    assert SECRET not in broken.log
    start(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS))


@pytest.mark.parametrize(
    ("part", "lines"), [("acknowledge_once", 1), ("acknowledge", 2)], ids=["once", "each time"]
)
def test_a_chunk_whose_end_cannot_be_reported_does_not_stay_unacknowledged(
    client: BertClient, redis: Redis, start_broken: StartBroken,
    part: str, lines: int,
) -> None:  # fmt: skip
    worker = start_broken(part).wait_ready()
    np.testing.assert_array_equal(client.encode(TEXTS[:20]), standins.rows(TEXTS[:20]))
    worker.wait_for_log("the end of a chunk could not be reported: TypeError", count=lines)
    eventually(lambda: not redis.exists("unacked", "unacked_index", "bertq"))
    assert worker.process.poll() is None
    assert SECRET not in worker.log


def test_a_message_that_cannot_be_returned_ends_the_worker(
    client: BertClient, start: Start, start_broken: StartBroken, redis: Redis
) -> None:
    worker = start_broken("acknowledge_and_reject").wait_ready()
    np.testing.assert_array_equal(client.encode(TEXTS[:20]), standins.rows(TEXTS[:20]))
    check_ended(worker, "the return of a message")
    start(1, "-Q", "cpu1")
    eventually(lambda: not redis.exists("unacked", "unacked_index", "bertq"), 30)


def test_a_chunk_that_runs_out_of_memory_at_its_end_does_not_stay_unacknowledged(
    client: BertClient, redis: Redis, start_broken: StartBroken
) -> None:
    worker = start_broken("result").wait_ready()
    with pytest.raises(RemoteError, match="MemoryError"):
        client.encode(TEXTS[:20])
    eventually(lambda: not redis.exists("unacked", "unacked_index", "bertq"))
    np.testing.assert_array_equal(client.encode(TEXTS[:20]), standins.rows(TEXTS[:20]))
    assert worker.process.poll() is None
