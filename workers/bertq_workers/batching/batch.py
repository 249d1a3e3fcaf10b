"""Batches: rows of one or several chunks, as many as the budget allows."""

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np

from bertq_bert.batches import Budget, Indices
from bertq_bert.checkpoint import Array
from bertq_bert.encoder import place

Ids = Sequence[Sequence[int]]


class GraphRunner(Protocol):
    """Something that computes rows: an ``Encoder``, or a stand-in for tests and benchmarks."""

    @property
    def budget(self) -> Budget:
        """Maximum size of one batch."""

    def run(self, ids: Ids) -> Array:
        """Return the rows of one batch within the budget, in the order of ``ids``."""

    def blank(self, lengths: Sequence[int]) -> Array:
        """Return zeros for the rows of sequences with these lengths."""


class RowsFuture(Future[Array]):
    """A future of the rows of a chunk.

    Attributes:
        started_at: the Unix time at which the first rows were taken into a batch.
    """

    started_at: float | None = None


class QueuedChunk:
    """A chunk, computed in one or several batches, on one or several lanes."""

    def __init__(self, ids: Ids, device: GraphRunner, on_begin: Callable[[], None] | None) -> None:
        lengths = np.fromiter(map(len, ids), np.intp, len(ids))
        self.ids = ids
        self.on_begin = on_begin
        self.rows = device.blank(lengths.tolist())
        self.future = RowsFuture()
        #: Row numbers, the shortest row first, and the lengths in that order.
        self.order: Indices = np.argsort(lengths, kind="stable")
        self.lengths = lengths[self.order]
        #: Sums of tokens before each row, in that order.
        self.tokens = [0, *accumulate(self.lengths.tolist())]
        #: Number of rows that are already in a batch.
        self.taken = 0
        self._missing = len(ids)
        self._lock = threading.Lock()

    def begin(self) -> bool:
        """Mark the chunk as begun, and return whether its rows are still needed.

        After that, the future cannot be cancelled any more.
        """
        if self.taken:
            return not self.future.done()
        self.future.started_at = time.time()
        return self.future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """Fail the chunk, including rows that are not computed yet."""
        with self._lock:
            if not self.future.done():
                self.future.set_exception(error)

    def deliver(self, indices: Indices, block: Array, places: Indices) -> None:
        """Copy rows from their places in a block; the last ones complete the future."""
        try:
            if block.ndim == 3:
                # Padded to the longest row of the batch, which may belong to another chunk.
                block = block[:, : self.rows.shape[1]]
            place(self.rows, indices, block[places])
        except Exception as error:  # rows of a shape or type that the device has not announced
            self.fail(error)
        with self._lock:
            self._missing -= len(indices)
            if not self._missing and not self.future.done():
                self.future.set_result(self.rows)


class Piece:
    """The rows of one chunk that are in one batch."""

    def __init__(self, chunk: QueuedChunk, start: int, end: int) -> None:
        self.chunk = chunk
        self.start, self.end = start, end
        self.rows = chunk.order[start:end]
        self.lengths = chunk.lengths[start:end]

    def halves(self) -> "tuple[Piece, Piece]":
        """Return the half with the shorter sentences, and the half with the longer ones."""
        middle = (self.start + self.end) // 2
        return Piece(self.chunk, self.start, middle), Piece(self.chunk, middle, self.end)


class ComputedPiece(NamedTuple):
    """A piece whose rows are computed.

    Attributes:
        piece: the piece.
        block: the rows of the batch, the shortest sentence first.
        places: where the rows of the piece are in it.
    """

    piece: Piece
    block: Array
    places: Indices

    def deliver(self) -> None:
        """Copy the rows to their chunk."""
        self.piece.chunk.deliver(self.piece.rows, self.block, self.places)


def halves(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Split the pieces of a batch in two: between chunks, or within a single chunk."""
    if len(pieces) == 1:
        for piece in pieces[0].halves():
            yield [piece]
    else:
        middle = len(pieces) // 2
        yield pieces[:middle]
        yield pieces[middle:]


class BatchBuilder:
    """A batch that is being filled."""

    def __init__(self, budget: Budget) -> None:
        self.pieces: list[Piece] = []
        self._budget = budget
        self._rows = self._tokens = self._longest = 0

    def fill(self, chunks: deque[QueuedChunk]) -> None:
        """Take rows from the front of a queue until it is empty or no row fits."""
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

    def _fitting(self, chunk: QueuedChunk) -> int:
        """Return how many more rows of a chunk fit, the shortest first."""
        start = chunk.taken

        def over(count: int) -> bool:
            rows, tokens, longest = self._with(chunk, start + count)
            return not self._budget.fits(rows, tokens, longest)

        # Rows, tokens and length all grow with the count: False, ..., False, True, ..., True.
        return bisect_right(range(1, len(chunk.ids) - start + 1), False, key=over)

    def _with(self, chunk: QueuedChunk, end: int) -> tuple[int, int, int]:
        return (
            self._rows + end - chunk.taken,
            self._tokens + chunk.tokens[end] - chunk.tokens[chunk.taken],
            max(self._longest, int(chunk.lengths[end - 1])),
        )

    def _add(self, chunk: QueuedChunk, count: int) -> None:
        end = chunk.taken + count
        self._rows, self._tokens, self._longest = self._with(chunk, end)
        self.pieces.append(Piece(chunk, chunk.taken, end))
        chunk.taken = end
