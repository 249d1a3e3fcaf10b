"""Chunks that may end the process, and batches that memory is short for."""

import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from redis import Redis

from bertq.protocol import keys, queues
from bertq.state import claims, worker_info
from bertq_bert.errors import OutOfMemory
from bertq_client.outbox.message import MessageBuilder
from bertq_workers.batching.batch import Ids
from bertq_workers.batching.batcher import Batcher
from tests import records
from tests.client.stub import info
from tests.waiting import eventually
from tests.workers.standins import Start
from tests.workers.test_batcher import BAD, WAIT, Device, answer, chunk


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def batcher(device: Device) -> Iterator[Batcher]:
    made = Batcher(device, lanes=3)
    yield made
    device.compute(100)


def test_a_suspicious_chunk_is_encoded_alone(device: Device, batcher: Batcher) -> None:
    begun = threading.Event()
    first = batcher.submit(chunk(0, 1))
    assert device.batch() == [0]
    suspect = batcher.submit(chunk(100, 25), begun.set)
    later = [batcher.submit(chunk(number, 1)) for number in (1, 2, 3)]
    # It waits for running batches, and no batch begins although two lanes are free.
    with pytest.raises(queue.Empty):
        device.began.get(timeout=0.3)
    assert not begun.is_set()
    device.compute()
    assert first.result(WAIT).tolist() == [[0, 3]]
    for rows in (10, 10, 5):  # it is more than a batch
        assert len(device.batch()) == rows
        assert begun.is_set()
        with pytest.raises(queue.Empty):
            device.began.get(timeout=0.1)
        assert not any(future.done() for future in later)
        device.compute()
    assert suspect.result(WAIT).tolist() == [list(row) for row in answer(chunk(100, 25))]
    device.compute(3)
    for number, future in enumerate(later, 1):
        assert future.result(WAIT).tolist() == [[number, 3]]


def test_two_suspicious_chunks_come_one_after_the_other(device: Device, batcher: Batcher) -> None:
    order: list[int] = []
    futures = [batcher.submit(chunk(n, 1), lambda n=n: order.append(n)) for n in range(4)]  # type: ignore[misc]
    assert device.batch() == [0]
    assert order == [0]
    assert futures[2].cancel()
    device.compute(3)
    assert [future.result(WAIT)[0, 0] for future in futures if not future.cancelled()] == [0, 1, 3]
    assert order == [0, 1, 3]


def test_small_chunks_and_suspicious_ones_take_turns(device: Device) -> None:
    batcher = Batcher(device, lanes=3, small_rows=2)
    suspects = [batcher.submit(chunk(first, 15), lambda: None) for first in (100, 200, 300)]
    large = batcher.submit(chunk(400, 5))
    assert device.batch() == list(range(100, 110))
    small = [batcher.submit(chunk(first, 1)) for first in (1, 2)]
    device.compute()
    assert device.batch() == list(range(110, 115))  # the rest of the first one
    device.compute()
    assert device.batch() == [1, 2]
    small.append(batcher.submit(chunk(3, 1)))
    with pytest.raises(queue.Empty):
        device.began.get(timeout=0.3)  # nothing begins before the batch has ended
    assert not any(future.done() for future in (*suspects[1:], large))
    device.compute()
    assert device.batch() == list(range(200, 210))
    device.compute(2)
    assert device.batch() == list(range(210, 215))
    assert device.batch() == [3]
    device.compute(4)
    assert [future.result(WAIT).tolist() for future in small] == [[[n, 3]] for n in (1, 2, 3)]
    for future, first, rows in zip(
        [*suspects, large], (100, 200, 300, 400), (15, 15, 15, 5), strict=True
    ):
        assert future.result(WAIT).tolist() == [list(row) for row in answer(chunk(first, rows))]


@pytest.mark.parametrize("is_behind_suspicious", [True, False])
def test_cancelled_small_chunks_delay_no_other(device: Device, is_behind_suspicious: bool) -> None:
    batcher = Batcher(device, small_rows=2)
    first = batcher.submit(chunk(0, 1), (lambda: None) if is_behind_suspicious else None)
    assert device.batch() == [0]
    assert batcher.submit(chunk(1, 1)).cancel()
    behind = batcher.submit(chunk(9, 3), (lambda: None) if is_behind_suspicious else None)
    device.compute(2)
    assert first.result(WAIT).tolist() == [[0, 3]]
    assert behind.result(WAIT).tolist() == [[9, 3], [10, 3], [11, 3]]


def test_a_cancelled_suspicious_chunk_delays_no_other(device: Device) -> None:
    batcher = Batcher(device)
    first = batcher.submit(chunk(0, 1))
    assert device.batch() == [0]
    suspect = batcher.submit(chunk(5, 1), lambda: None)
    behind = batcher.submit(chunk(9, 1))
    assert suspect.cancel()
    device.compute(2)
    assert first.result(WAIT).tolist() == [[0, 3]]
    assert behind.result(WAIT).tolist() == [[9, 3]]


def test_others_continue_after_a_suspicious_chunk_fails(device: Device, batcher: Batcher) -> None:
    def broken() -> None:
        raise ZeroDivisionError("it cannot be counted")

    failed = batcher.submit(chunk(0, 1), broken)
    guilty = batcher.submit([[BAD]], lambda: None)
    innocent = batcher.submit(chunk(7, 2))
    device.compute(2)
    with pytest.raises(ZeroDivisionError):
        failed.result(WAIT)
    with pytest.raises(ArithmeticError):
        guilty.result(WAIT)
    assert innocent.result(WAIT).tolist() == [[7, 3], [8, 3]]


def push(redis: Redis, job: str, queue: str, *, is_redelivered: bool, chunks: int = 1) -> None:
    """Send the first chunk of a job."""
    records.write(redis, job, queue=queue, chunks=chunks)
    message = json.loads(MessageBuilder("me").build(f"{job}-0", ["a"], queue))
    message["properties"]["delivery_info"]["redelivered"] = is_redelivered
    redis.lpush(queue, json.dumps(message))


def test_only_chunks_that_were_perhaps_begun_are_suspicious(redis: Redis, start: Start) -> None:
    push(redis, "returned", queues.SHARED, is_redelivered=True)
    push(redis, "begun", queues.SHARED, is_redelivered=True)
    push(redis, "sent-twice", queues.SHARED, is_redelivered=False)
    for job in ("begun", "sent-twice"):
        redis.hset(keys.job(job), keys.attempts(0), 1)
    # A group of small requests does not count that it begins.
    push(redis, "small", queues.SMALL, is_redelivered=True)
    start(1.0)
    eventually(lambda: redis.xlen(keys.reply("me")) == 4, 30)
    # The attempt at a suspicious chunk is counted when it is computed, alone.
    expected = {"returned": b"1", "begun": b"2", "sent-twice": b"2", "small": b"2"}
    assert {job: redis.hget(keys.job(job), keys.attempts(0)) for job in expected} == expected


def test_a_chunk_that_is_returned_to_a_new_model_is_not_suspicious(
    redis: Redis, start: Start
) -> None:
    worker = start(768_000.0)  # 3 s for a row
    other = replace(info([queues.SHARED]), fingerprint="new")
    worker_info.publish(redis, other, worker_info.STANDBY)
    push(redis, "job", queues.SHARED, is_redelivered=False, chunks=2)
    eventually(lambda: redis.hget(keys.job("job"), keys.attempts(0)) == b"1", 30)
    old = worker_info.read(redis, worker_info.SERVING)
    claims.switch(redis, [queues.SHARED, queues.SMALL], "new", old, 60)
    worker.wait_for_log("chunk job-0: returned for")
    assert worker.process.wait(60) == 0
    assert redis.llen(queues.SHARED) == 1
    assert not redis.hexists(keys.job("job"), keys.attempts(0))


class Short(Device):
    """A device that has memory for a limited number of rows."""

    def __init__(self, most: int, error: type[BaseException]) -> None:
        super().__init__(rows=16)
        self.most = most
        self.error = error
        self.sizes_run: list[int] = []

    def run(self, ids: Ids) -> NDArray[np.float32]:
        self.sizes_run.append(len(ids))
        if len(ids) > self.most:
            raise self.error("no memory")
        return np.array(answer(ids), np.float32)


@pytest.mark.parametrize("error", [OutOfMemory, MemoryError])
def test_a_batch_that_does_not_fit_into_memory_is_split_into_parts(
    error: type[BaseException],
) -> None:
    short = Short(4, error)
    batcher = Batcher(short)
    ids = [[number] * (number % 5 + 1) for number in range(16)]
    future = batcher.submit(ids)
    assert future.result(WAIT).tolist() == [list(row) for row in answer(ids)]
    assert short.sizes_run == [16, 8, 4, 4, 8, 4, 4]


class Shared(Device):
    """A device whose memory is enough for one batch at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0
        self._memory = threading.Lock()

    def run(self, ids: Ids) -> NDArray[np.float32]:
        if not self._memory.acquire(blocking=False):
            self.refused += 1
            raise OutOfMemory("no memory")
        try:
            return super().run(ids)
        finally:
            self._memory.release()


@pytest.mark.parametrize("rows", [1, 10])
def test_a_batch_without_memory_beside_another_is_computed_after_it(rows: int) -> None:
    shared = Shared()
    batcher = Batcher(shared, lanes=3)
    first = batcher.submit(chunk(0, rows))
    shared.batch()
    second = batcher.submit(chunk(10, rows))
    eventually(lambda: shared.refused == 1)
    third = batcher.submit(chunk(20, rows))
    shared.compute(3)
    for future, start in ((first, 0), (second, 10), (third, 20)):
        np.testing.assert_array_equal(future.result(WAIT), answer(chunk(start, rows)))


def test_a_row_that_does_not_fit_into_memory_is_an_error() -> None:
    short = Short(0, MemoryError)
    batcher = Batcher(short)
    with pytest.raises(OutOfMemory, match="no memory"):
        batcher.submit(chunk(0, 8)).result(WAIT)
    # The rest of the chunk is not tried: it has failed.
    assert short.sizes_run == [8, 4, 2, 1]
    short.most = 8
    assert batcher.submit(chunk(5, 1)).result(WAIT).tolist() == [[5, 3]]
