"""Chunks that may end the process, and batches that memory is short for."""

import queue
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from bertq_bert.errors import OutOfMemory
from bertq_workers.batching.batch import Ids
from bertq_workers.batching.batcher import Batcher
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


def test_a_row_that_does_not_fit_into_memory_is_an_error() -> None:
    short = Short(0, MemoryError)
    batcher = Batcher(short)
    with pytest.raises(OutOfMemory, match="no memory"):
        batcher.submit(chunk(0, 8)).result(WAIT)
    # The rest of the chunk is not tried: it has failed.
    assert short.sizes_run == [8, 4, 2, 1]
    short.most = 8
    assert batcher.submit(chunk(5, 1)).result(WAIT).tolist() == [[5, 3]]
