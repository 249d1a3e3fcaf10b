"""Workers with a bug: they return their messages, or end with the reason."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import RemoteError
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
    ("part", "thread"), [("lane", "bertq-lane-0"), ("pool_thread", "bertq-chunk-0")]
)
def test_a_bug_in_a_thread_that_computes_ends_the_worker_at_once(
    client: BertClient, start: Start, start_broken: StartBroken,
    part: str, thread: str,
) -> None:  # fmt: skip
    future = client.encode_async(TEXTS[:3])
    broken = start_broken(part)
    check_ended(broken, f"thread {thread}")
    start(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS[:3]))


@pytest.mark.parametrize(
    ("part", "lines"), [("acknowledge_once", 1), ("acknowledge", 2)], ids=["once", "each time"]
)
def test_a_chunk_whose_end_cannot_be_reported_does_not_stay_unacknowledged(
    client: BertClient, redis: Redis, start_broken: StartBroken,
    part: str, lines: int,
) -> None:  # fmt: skip
    worker = start_broken(part).wait_ready()
    np.testing.assert_array_equal(client.encode(TEXTS[:3]), standins.rows(TEXTS[:3]))
    worker.wait_for_log("the end of a chunk could not be reported: TypeError", count=lines)
    eventually(lambda: not redis.exists("unacked", "unacked_index", "bertq.small"))
    assert worker.process.poll() is None
    assert SECRET not in worker.log


def test_a_message_that_cannot_be_returned_ends_the_worker(
    client: BertClient, start: Start, start_broken: StartBroken, redis: Redis
) -> None:
    worker = start_broken("acknowledge_and_reject").wait_ready()
    np.testing.assert_array_equal(client.encode(TEXTS[:3]), standins.rows(TEXTS[:3]))
    check_ended(worker, "the return of a message")
    start(1, "-Q", "cpu1")
    eventually(lambda: not redis.exists("unacked", "unacked_index", "bertq.small"), 30)


def test_a_chunk_that_runs_out_of_memory_at_its_end_does_not_stay_unacknowledged(
    client: BertClient, redis: Redis, start_broken: StartBroken
) -> None:
    worker = start_broken("result").wait_ready()
    with pytest.raises(RemoteError, match="MemoryError"):
        client.encode(TEXTS[:3])
    eventually(lambda: not redis.exists("unacked", "unacked_index", "bertq.small"))
    np.testing.assert_array_equal(client.encode(TEXTS[:3]), standins.rows(TEXTS[:3]))
    assert worker.process.poll() is None
