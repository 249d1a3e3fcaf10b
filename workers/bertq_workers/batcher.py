"""Merging what waits, across requests and clients, into batches for one model."""

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import accumulate
from typing import Protocol

import numpy as np

from bertq_bert.batches import Budget, Indices
from bertq_bert.checkpoint import Array
from bertq_bert.encoder import place

Ids = Sequence[Sequence[int]]


class Device(Protocol):
    """What computes: an ``Encoder``, or a stand-in of tests and benchmarks."""

    @property
    def budget(self) -> Budget:
        """What one batch may have."""

    def run(self, ids: Ids) -> Array:
        """Return the rows of one batch within the budget, in its order."""

    def blank(self, lengths: Sequence[int]) -> Array:
        """Return zeros for the rows of sequences of these lengths."""


class Batcher:
    """A queue of chunks, and one thread for each lane that computes them on one device.

    A lane that is free takes what waits, at once: it never waits for more. While it computes,
    others gather. Chunks of at most ``small`` rows go first; where both wait, a batch of small
    ones and one that begins with the oldest large one take turns. A large chunk fills what is left
    of the budget and goes on in the next batch. Rows of a batch are sorted by length; they are
    those that ``Encoder.compute`` returns, to 1e-6.
    """

    def __init__(
        self,
        device: Device,
        *,
        lanes: int = 1,
        small: int = 16,
        computed: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        """``computed`` is told the rows of each batch, and the seconds that it took."""
        self._device = device
        self._small_rows = small
        self._computed = computed
        self._changed = threading.Condition()
        self._small: deque[_Chunk] = deque()
        self._large: deque[_Chunk] = deque()
        self._large_passed_over = False
        self._closed = False
        self._began: dict[int, float] = {}  # by lane: when its batch began
        self._lanes = [
            threading.Thread(target=self._run_lane, name=f"bertq-lane-{number}", daemon=True)
            for number in range(lanes)
        ]
        for lane in self._lanes:
            lane.start()

    def submit(self, ids: Ids) -> "Future[Array]":
        """Have the rows of checked sequences of token ids computed; safe to call from any thread.

        Returns:
            A future of the rows, in the order of the sequences. Cancelled before the first of them
            is computed, it costs nothing any more.
        """
        chunk = _Chunk(ids, self._device)
        if not ids:
            chunk.future.set_result(chunk.rows)
            return chunk.future
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            (self._small if len(ids) <= self._small_rows else self._large).append(chunk)
            self._changed.notify()
        return chunk.future

    def longest(self) -> float:
        """Return the seconds for which the oldest batch has been computed; 0 if there is none."""
        began = list(self._began.values())
        return time.monotonic() - min(began) if began else 0.0

    def close(self) -> None:
        """End the lanes, each after its batch; what waits is cancelled."""
        with self._changed:
            self._closed = True
            for chunk in (*self._small, *self._large):
                chunk.future.cancel()
            self._changed.notify_all()
        for lane in self._lanes:
            lane.join()

    def _run_lane(self) -> None:
        while pieces := self._next():
            self._compute(pieces)
            pieces = []  # or its rows would stay until the next batch

    def _next(self) -> "list[_Piece]":
        """Wait for work; nothing when the batcher is closed."""
        with self._changed:
            while not self._closed:
                if pieces := self._take():
                    return pieces
                self._changed.wait()
        return []

    def _take(self) -> "list[_Piece]":
        batch = _Batch(self._device.budget)
        if self._large_passed_over or not self._small:
            batch.fill(self._large)
            batch.fill(self._small)
            self._large_passed_over = False
        else:
            # Nothing large comes along: it would keep the small ones waiting for their rows.
            batch.fill(self._small)
            self._large_passed_over = bool(self._large)
        if self._small or self._large:
            self._changed.notify()  # another lane may be free
        return batch.pieces

    def _compute(self, pieces: "list[_Piece]") -> None:
        """Compute a batch; where it fails, its halves, so that the guilty chunk fails alone."""
        try:
            blocks = self._execute(pieces)
        except BaseException as error:
            if len(pieces) == 1:
                pieces[0].chunk.fail(error)
                return
            middle = len(pieces) // 2
            self._compute(pieces[:middle])
            self._compute(pieces[middle:])
            return
        for piece, block in zip(pieces, blocks, strict=True):
            piece.deliver(block)

    def _execute(self, pieces: "list[_Piece]") -> list[Array]:
        """Return the rows of each piece."""
        lengths = np.concatenate([piece.lengths for piece in pieces])
        order = np.argsort(lengths, kind="stable")
        ids = [piece.chunk.ids[row] for piece in pieces for row in piece.rows.tolist()]
        lane = threading.get_ident()
        self._began[lane] = began = time.monotonic()
        try:
            block = self._device.run([ids[row] for row in order.tolist()])
        finally:
            del self._began[lane]
        self._computed(len(ids), time.monotonic() - began)
        # Where each row of the batch, as the chunks dealt it, came out.
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        ends = list(accumulate(len(piece.rows) for piece in pieces))
        return [block[part] for part in np.split(places, ends[:-1])]


class _Chunk:
    """Rows of one future, computed in one batch or several, on one lane or several."""

    def __init__(self, ids: Ids, device: Device) -> None:
        lengths = np.fromiter(map(len, ids), np.intp, len(ids))
        self.ids = ids
        self.rows = device.blank(lengths.tolist())
        self.future: Future[Array] = Future()
        #: row numbers, the shortest first, and the lengths of those
        self.order: Indices = np.argsort(lengths, kind="stable")
        self.lengths = lengths[self.order]
        #: tokens of the rows before each, in that order
        self.tokens = [0, *accumulate(self.lengths.tolist())]
        #: how many of them are in a batch
        self.taken = 0
        self._missing = len(ids)
        self._lock = threading.Lock()

    def begin(self) -> bool:
        """Return whether its rows are worth computing; it cannot be cancelled any more then."""
        if self.taken:
            return not self.future.done()
        return self.future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """Give up, with the rows that are not computed yet."""
        with self._lock:
            if not self.future.done():
                self.future.set_exception(error)

    def deliver(self, indices: Indices, block: Array) -> None:
        """Put rows where they belong; the last ones complete the future."""
        if block.ndim == 3:
            # Padded to the longest of the batch, which may be another chunk's.
            block = block[:, : self.rows.shape[1]]
        try:
            place(self.rows, indices, block)
        except ValueError as error:  # rows of a shape that the device has not announced
            self.fail(error)
        with self._lock:
            self._missing -= len(indices)
            if not self._missing and not self.future.done():
                self.future.set_result(self.rows)


class _Piece:
    """Rows of a chunk that are in one batch."""

    def __init__(self, chunk: _Chunk, start: int, end: int) -> None:
        self.chunk = chunk
        self.rows = chunk.order[start:end]
        self.lengths = chunk.lengths[start:end]

    def deliver(self, block: Array) -> None:
        self.chunk.deliver(self.rows, block)


class _Batch:
    """A batch that is being filled."""

    def __init__(self, budget: Budget) -> None:
        self.pieces: list[_Piece] = []
        self._budget = budget
        self._rows = self._tokens = self._longest = 0

    def fill(self, chunks: "deque[_Chunk]") -> None:
        """Take from the front of a queue until it is empty, or nothing fits any more."""
        while chunks:
            chunk = chunks[0]
            count = self._fitting(chunk)
            if not count:
                return
            if chunk.begin():
                self._add(chunk, count)
                if chunk.taken < len(chunk.ids):
                    return
            chunks.popleft()

    def _fitting(self, chunk: _Chunk) -> int:
        """Return how many more rows of a chunk fit, the shortest first."""
        start = chunk.taken

        def over(count: int) -> bool:
            rows, tokens, longest = self._with(chunk, start + count)
            return not self._budget.fits(rows, tokens, longest)

        # The more rows, the more of everything: False, ..., False, True, ..., True.
        return bisect_right(range(1, len(chunk.ids) - start + 1), False, key=over)

    def _with(self, chunk: _Chunk, end: int) -> tuple[int, int, int]:
        return (
            self._rows + end - chunk.taken,
            self._tokens + chunk.tokens[end] - chunk.tokens[chunk.taken],
            max(self._longest, int(chunk.lengths[end - 1])),
        )

    def _add(self, chunk: _Chunk, count: int) -> None:
        end = chunk.taken + count
        self._rows, self._tokens, self._longest = self._with(chunk, end)
        self.pieces.append(_Piece(chunk, chunk.taken, end))
        chunk.taken = end
