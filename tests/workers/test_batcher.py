"""Batches and their chunks, on a device that the test controls."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bertq_bert.batches import Budget
from bertq_workers.batching.batch import Ids
from bertq_workers.batching.batcher import Batcher

WAIT = 10
BAD = 666


class Device:
    """A device that the test controls; a row is (first id, length)."""

    def __init__(self, rows: int = 10, tokens: int = 10**6, scores: int = 10**9) -> None:
        self.budget = Budget(rows, tokens, scores)
        self.began: queue.Queue[list[tuple[int, int]]] = queue.Queue()
        self._permits = threading.Semaphore(0)

    def run(self, ids: Ids) -> NDArray[np.float32]:
        batch = [(row[0], len(row)) for row in ids]
        self.began.put(batch)
        assert self._permits.acquire(timeout=WAIT)
        if any(first == BAD for first, _ in batch):
            raise ArithmeticError("the device is given what it cannot compute")
        return np.array(batch, np.float32)

    def blank(self, lengths: Sequence[int]) -> NDArray[np.float32]:
        return np.zeros((len(lengths), 2), np.float32)

    def compute(self, batches: int = 1) -> None:
        """Finish ``batches`` batches."""
        for _ in range(batches):
            self._permits.release()

    def batch(self) -> list[int]:
        """The first ids of the rows of the batch that it began next."""
        return [first for first, _ in self.began.get(timeout=WAIT)]

    def sizes(self, batches: int) -> list[int]:
        """Finish ``batches`` batches; return their sizes."""
        self.compute(batches)
        return [len(self.began.get(timeout=WAIT)) for _ in range(batches)]


class PerToken(Device):
    """As pooling NONE does it: a row for each token, as long as the longest of the batch."""

    def run(self, ids: Ids) -> NDArray[np.float32]:
        super().run(ids)
        rows = np.zeros((len(ids), max(map(len, ids)), 1), np.float32)
        for number, row in enumerate(ids):
            rows[number, : len(row), 0] = row
        return rows

    def blank(self, lengths: Sequence[int]) -> NDArray[np.float32]:
        return np.zeros((len(lengths), max(lengths), 1), np.float32)


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def batcher(device: Device) -> Iterator[Batcher]:
    made = Batcher(device, small_rows=2)
    yield made
    device.compute(100)


def chunk(first: int, rows: int, length: int = 3) -> list[list[int]]:
    """Rows that begin with ``first``, ``first + 1``, ..."""
    return [[first + number] * length for number in range(rows)]


def answer(ids: Ids) -> list[tuple[int, int]]:
    return [(row[0], len(row)) for row in ids]


class WrongRows(Device):
    """A device with a bug: its rows are no array."""

    def run(self, ids: Ids) -> NDArray[np.float32]:
        return super().run(ids).tolist()  # type: ignore[no-any-return]


def test_rows_of_another_type_fail_their_chunk(device: Device) -> None:
    wrong = WrongRows()
    batcher = Batcher(wrong)
    wrong.compute(2)
    for _ in range(2):
        with pytest.raises((AttributeError, TypeError)):
            batcher.submit(chunk(1, 1)).result(WAIT)


def test_a_lone_chunk_starts_at_once(device: Device, batcher: Batcher) -> None:
    for _ in range(3):
        future = batcher.submit(chunk(1, 1))
        assert device.batch() == [1]
        device.compute()
        assert future.result(WAIT).tolist() == [[1, 3]]


def test_waiting_rows_are_merged_and_sorted_by_length(device: Device, batcher: Batcher) -> None:
    batcher.submit(chunk(0, 1))
    device.batch()
    waiting = [
        [[10] * 5, [11] * 2, [12] * 9],
        [[20] * 1, [21] * 7, [22] * 2],
        [[30] * 4, [31] * 3, [32] * 8, [33] * 2],
    ]
    futures = [batcher.submit(ids) for ids in waiting]
    device.compute()
    assert device.batch() == [20, 11, 22, 33, 31, 30, 10, 21, 32, 12]
    device.compute()
    for ids, future in zip(waiting, futures, strict=True):
        np.testing.assert_array_equal(future.result(WAIT), answer(ids))


def test_a_large_chunk_is_split_and_its_rest_merged(device: Device, batcher: Batcher) -> None:
    batcher.submit(chunk(0, 1))
    waiting = [chunk(100, 24), chunk(200, 8), chunk(300, 3)]
    device.batch()
    futures = [batcher.submit(ids) for ids in waiting]
    device.compute()
    assert device.sizes(4) == [10, 10, 10, 5]  # 24 + 8 + 3 in tens
    for ids, future in zip(waiting, futures, strict=True):
        np.testing.assert_array_equal(future.result(WAIT), answer(ids))


@pytest.mark.parametrize(
    ("budget", "sizes"),
    [
        (Device(rows=100, tokens=30), [3, 3, 3, 1]),
        (Device(rows=100, scores=250), [2, 2, 2, 2, 2]),
        (Device(rows=100, tokens=5), [1] * 10),  # a single row always runs
    ],
    ids=["tokens", "scores", "too long"],
)
def test_the_budget_is_kept(budget: Device, sizes: list[int]) -> None:
    batcher = Batcher(budget)
    future = batcher.submit(chunk(0, 10, length=10))
    assert budget.sizes(len(sizes)) == sizes
    assert future.result(WAIT).shape == (10, 2)


def test_small_chunks_and_large_ones_take_turns(device: Device, batcher: Batcher) -> None:
    batcher.submit(chunk(0, 1))
    device.batch()
    batcher.submit(chunk(100, 25))
    for first in (1, 3):
        batcher.submit(chunk(first, 2))
    device.compute()
    assert device.batch() == [1, 2, 3, 4]  # small chunks first, without large ones in their batch
    batcher.submit(chunk(5, 2))
    device.compute()
    assert device.batch() == list(range(100, 110))
    batcher.submit(chunk(7, 2))
    device.compute()
    assert device.batch() == [5, 6, 7, 8]
    device.compute()
    assert device.batch() == list(range(110, 120))
    batcher.submit(chunk(9, 2))
    device.compute()
    assert device.batch() == [9, 10]
    # A batch with space left takes the small chunk together with the large one.
    batcher.submit(chunk(11, 2))
    device.compute()
    assert sorted(device.batch()) == [11, 12, *range(120, 125)]


def test_a_chunk_that_is_cancelled_in_time_is_not_computed(
    device: Device, batcher: Batcher
) -> None:
    running = batcher.submit(chunk(0, 1))
    device.batch()
    dropped, kept = batcher.submit(chunk(10, 3)), batcher.submit(chunk(20, 3))
    assert dropped.cancel()
    assert not running.cancel()
    device.compute(2)
    assert device.batch() == [20, 21, 22]
    assert kept.result(WAIT).shape == (3, 2)
    with pytest.raises(CancelledError):
        dropped.result(WAIT)


def test_only_the_poisoned_chunk_fails(device: Device, batcher: Batcher) -> None:
    batcher.submit(chunk(0, 1))
    device.batch()
    futures = [batcher.submit(chunk(first, 2)) for first in (1, 3, BAD, 5, 7)]
    device.compute(20)
    for future in (*futures[:2], *futures[3:]):
        assert future.result(WAIT).shape == (2, 2)
    with pytest.raises(ArithmeticError):
        futures[2].result(WAIT)
    # All, two and the rest, the guilty one alone and its neighbours.
    assert [len(device.batch()) for _ in range(5)] == [10, 4, 6, 2, 4]
    assert batcher.submit(chunk(9, 1)).result(WAIT).tolist() == [[9, 3]]


def test_the_rest_of_a_chunk_that_failed_is_not_computed(device: Device, batcher: Batcher) -> None:
    future = batcher.submit([[BAD], *chunk(1, 29)])
    device.compute(2)
    with pytest.raises(ArithmeticError):
        future.result(WAIT)
    after = batcher.submit(chunk(50, 3))
    assert after.result(WAIT).shape == (3, 2)
    assert [len(device.batch()) for _ in range(2)] == [10, 3]
    assert device.began.empty()


def test_rows_of_a_wrong_shape_are_an_error() -> None:
    class Liar(Device):
        def run(self, ids: Ids) -> NDArray[np.float32]:
            return np.repeat(super().run(ids), 3, axis=1)

    device = Liar()
    batcher = Batcher(device)
    device.compute(2)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"shape mismatch|broadcast"):
            batcher.submit(chunk(1, 3)).result(WAIT)


def test_rows_of_tokens_are_as_long_as_the_chunk_has_them() -> None:
    device = PerToken()
    batcher = Batcher(device)
    batcher.submit([[0]])
    device.batch()
    waiting = [[[1] * 4, [2] * 2], [[3] * 9], [[4] * 1, [5] * 3]]
    futures = [batcher.submit(ids) for ids in waiting]
    device.compute(2)
    for ids, future in zip(waiting, futures, strict=True):
        longest = max(map(len, ids))
        expected = [row + [0] * (longest - len(row)) for row in ids]
        np.testing.assert_array_equal(future.result(WAIT)[:, :, 0], expected)


def test_lanes_compute_at_the_same_time() -> None:
    device = Device()
    counted: list[tuple[int, float]] = []
    batcher = Batcher(
        device, lanes=2, on_batch=lambda rows, share, _: counted.append((rows, share))
    )
    future = batcher.submit(chunk(0, 25))
    # Both have begun and none has finished.
    assert sorted([*device.batch(), *device.batch()]) == list(range(20))
    device.compute(3)
    np.testing.assert_array_equal(future.result(WAIT), answer(chunk(0, 25)))
    assert sorted(counted) == [(5, 0.5), (10, 1.0), (10, 1.0)]


def test_a_full_batch_is_begun_ahead_of_time(device: Device) -> None:
    batcher = Batcher(device, ahead=1, small_rows=2)
    futures = [batcher.submit(chunk(0, 1))]
    assert device.batch() == [0]
    futures.append(batcher.submit(chunk(10, 9)))  # a batch has at most ten rows
    futures.append(batcher.submit(chunk(20, 4)))
    assert device.batch() == [*range(10, 19), 20]
    futures.append(batcher.submit(chunk(30, 30)))
    device.compute()
    assert device.batch() == [21, 22, 23, *range(30, 37)], "and one more, after a batch has ended"
    device.compute()
    assert len(device.batch()) == 10
    device.compute()
    assert len(device.batch()) == 10
    device.compute(2)
    assert device.batch() == [57, 58, 59], "not full: begun when the device was free"
    device.compute()
    for future, (first, rows) in zip(futures, [(0, 1), (10, 9), (20, 4), (30, 30)], strict=True):
        np.testing.assert_array_equal(future.result(WAIT), answer(chunk(first, rows)))


def test_a_batch_that_is_not_full_is_not_begun_ahead_of_time(device: Device) -> None:
    batcher = Batcher(device, ahead=1)
    batcher.submit(chunk(0, 1))
    assert device.batch() == [0]
    waiting = [batcher.submit(chunk(first, 3)) for first in (10, 20, 30)]
    device.compute()
    assert len(device.batch()) == 9, "all three, after the first batch"
    device.compute()
    for future, first in zip(waiting, (10, 20, 30), strict=True):
        np.testing.assert_array_equal(future.result(WAIT), answer(chunk(first, 3)))


class OneByOne(Device):
    """A device that computes one batch after another, each for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def run(self, ids: Ids) -> NDArray[np.float32]:
        with self._lock:
            time.sleep(0.01)
        return np.array([(row[0], len(row)) for row in ids], np.float32)


def test_the_time_of_a_batch_begins_when_the_device_is_free() -> None:
    seconds: list[float] = []
    batcher = Batcher(OneByOne(), ahead=1, on_batch=lambda _, __, value: seconds.append(value))
    started = time.monotonic()
    batcher.submit(chunk(0, 95)).result(WAIT)
    elapsed = time.monotonic() - started
    assert len(seconds) == 10
    assert sum(seconds) <= elapsed


def test_nothing_is_nothing(batcher: Batcher) -> None:
    assert batcher.submit([]).result(0).shape == (0, 2)


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "NONE"])
def test_rows_are_those_of_the_encoder(tiny_model: Path, strategy: str) -> None:
    from bertq_bert import load_encoder

    encoder = load_encoder(
        tiny_model, max_seq_len="none", max_batch_size=7, pooling_strategy=strategy
    )
    words = "the of and to in that he shall unto for".split()  # noqa: SIM905
    chunks = [
        encoder.tokenize([" ".join(words[: 1 + (row * size) % 10]) for row in range(size)]).ids
        for size in (1, 30, 3, 16, 5)
    ]
    batcher = Batcher(encoder, lanes=2, small_rows=4)
    futures = [batcher.submit(ids) for ids in chunks]
    for ids, future in zip(chunks, futures, strict=True):
        expected = encoder.compute(ids)
        rows = future.result(WAIT)
        assert rows.shape == expected.shape
        # The random model has values of about 3: a relative 1e-6.
        np.testing.assert_allclose(rows, expected, rtol=0, atol=5e-6)


class Submitter:
    """A thread that submits a small chunk."""

    def __init__(self, batcher: Batcher, first: int) -> None:
        self._batcher = batcher
        self._first = first
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._future = self._batcher.submit_small(chunk(self._first, 1))

    def is_computing(self) -> bool:
        return self._thread.is_alive()

    def rows(self) -> list[list[float]]:
        self._thread.join(WAIT)
        rows: list[list[float]] = self._future.result(WAIT).tolist()
        return rows


def test_a_small_chunk_is_computed_on_the_thread_that_submits_it(device: Device) -> None:
    batcher = Batcher(device, lanes=2)
    one = Submitter(batcher, 1)
    assert device.batch() == [1]
    two = Submitter(batcher, 2)
    assert device.batch() == [2]
    waiting = batcher.submit_small(chunk(3, 1))  # no lane is free
    assert one.is_computing()
    assert two.is_computing()
    assert device.began.empty()
    device.compute()
    assert device.batch() == [3]  # a lane continues
    device.compute(2)
    assert [one.rows(), two.rows()] == [[[1, 3]], [[2, 3]]]
    assert waiting.result(WAIT).tolist() == [[3, 3]]


def test_a_thread_that_submits_a_small_chunk_computes_no_large_one(
    device: Device, batcher: Batcher
) -> None:
    running = batcher.submit(chunk(1, 1))
    assert device.batch() == [1]
    large = batcher.submit(chunk(10, 30))
    small = batcher.submit_small(chunk(2, 1))
    device.compute()
    running.result(WAIT)
    assert device.batch() == [2]
    device.compute()
    small.result(WAIT)
    assert not large.done()


def test_a_bug_frees_the_lane_of_a_submitting_thread(device: Device) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    batcher = Batcher(device, on_batch=fail)
    device.compute(10)
    for number in range(3):
        with pytest.raises(ZeroDivisionError):
            batcher.submit_small(chunk(number, 1)).result(WAIT)
