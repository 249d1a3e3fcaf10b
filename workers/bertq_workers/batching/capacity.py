"""Limits on the chunks that a worker takes: counted in rows, not in messages.

Messages differ in size: eight chunks of 256 rows are seconds of work on a CPU, which another worker
could have begun, while dozens of requests of one row must be in the worker at the same time to fill
one batch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertq.protocol import limits, queues

if TYPE_CHECKING:
    from bertq_bert.batches import Budget

#: Batches in the worker for each lane: one that is computed and one that waits. At least one chunk
#: that is computed and one that waits.
_BATCHES_PER_LANE = 2

#: Tokens of a short sentence. If a batch is bounded by tokens, its rows are estimated with it.
_SHORT_SENTENCE_TOKENS = 16

#: Maximum chunks in the worker, per lane and in total; each chunk has its own thread.
_MAX_CHUNKS_PER_LANE, _MAX_CHUNKS = 64, 256

#: Minimum capacity in rows, however small a batch is: for as many requests of one row.
_MIN_ROWS = 32


@dataclass
class Capacity:
    """The chunks of one kind in the worker, and the limits on them.

    Attributes:
        max_rows: no chunk is taken once the worker has so many rows; the last chunk may exceed it.
        max_chunks: maximum chunks in the worker.
        rows: current rows.
        chunks: current chunks.
    """

    max_rows: int
    max_chunks: int
    rows: int = 0
    chunks: int = 0

    @property
    def is_available(self) -> bool:
        """Whether another chunk may be taken."""
        return self.rows < self.max_rows and self.chunks < self.max_chunks

    @property
    def free_small_chunks(self) -> int:
        """Number of chunks of small requests that may be taken at once."""
        rows = self.max_rows - self.rows
        return max(1, min(self.max_chunks - self.chunks, rows // queues.PRIORITY_BATCH_SIZE))

    def add(self, rows: int) -> None:
        """Add a chunk that was taken."""
        self.rows += rows
        self.chunks += 1

    def remove(self, rows: int) -> None:
        """Remove a chunk that was answered or returned to its queue."""
        self.rows -= rows
        self.chunks -= 1


class WorkerCapacity:
    """The capacities of a worker; chunks of small requests have their own.

    A worker that is full of large chunks can therefore still take a small request, and compute it
    first.
    """

    def __init__(self) -> None:
        self.small = Capacity(1, 1)
        self.large = Capacity(1, 1)

    @property
    def chunks(self) -> int:
        """The number of chunks in the worker."""
        return self.small.chunks + self.large.chunks

    @property
    def rows(self) -> int:
        """The number of rows in the worker."""
        return self.small.rows + self.large.rows

    def set_limits(self, budget: "Budget", lanes: int) -> None:
        """Set the limits, for batches within a budget on so many lanes."""
        batch_rows = min(budget.rows, -(-budget.tokens // _SHORT_SENTENCE_TOKENS))
        chunk_rows = min(budget.rows, limits.MAX_CHUNK_ROWS)
        max_rows = max(_BATCHES_PER_LANE * max(batch_rows * lanes, chunk_rows), _MIN_ROWS)
        for capacity in (self.small, self.large):
            capacity.max_rows = max_rows
            capacity.max_chunks = min(_MAX_CHUNKS_PER_LANE * lanes, _MAX_CHUNKS)

    def for_queue(self, queue: str) -> Capacity:
        """Return the capacity for chunks from a queue."""
        return self.small if queues.is_small(queue) else self.large
