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
_AHEAD = 2

#: Tokens of a short sentence. If a batch is bounded by tokens, its rows are estimated with it.
_SHORT = 16

#: Maximum chunks in the worker, per lane and in total; each chunk has its own thread.
_CHUNKS, _ALL_CHUNKS = 64, 256

#: Minimum capacity for requests of one row, however small a batch is.
_SMALL_CHUNKS = 32


@dataclass
class Capacity:
    """The chunks of one kind in the worker, and the bounds on them.

    Attributes:
        most_rows: no chunk is taken once the worker has so many rows; the last chunk may exceed it.
        most_chunks: maximum chunks in the worker.
        rows: current rows.
        chunks: current chunks.
    """

    most_rows: int
    most_chunks: int
    rows: int = 0
    chunks: int = 0

    @property
    def open(self) -> bool:
        """Whether another chunk may be taken."""
        return self.rows < self.most_rows and self.chunks < self.most_chunks

    @property
    def free(self) -> int:
        """Number of chunks of small requests that may be taken at once."""
        rows = self.most_rows - self.rows
        return max(1, min(self.most_chunks - self.chunks, rows // queues.PRIORITY_BATCH_SIZE))

    def enter(self, rows: int) -> None:
        """Add a chunk that was taken."""
        self.rows += rows
        self.chunks += 1

    def leave(self, rows: int) -> None:
        """Subtract a chunk that was answered or returned to its queue."""
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

    def bound(self, budget: "Budget", lanes: int) -> None:
        """Set the bounds, for batches within a budget on so many lanes."""
        batch = min(budget.rows, -(-budget.tokens // _SHORT))
        chunk = min(budget.rows, limits.MAX_CHUNK_ROWS)
        for room in (self.small, self.large):
            room.most_rows = max(_AHEAD * max(batch * lanes, chunk), _SMALL_CHUNKS)
            room.most_chunks = min(_CHUNKS * lanes, _ALL_CHUNKS)

    def room(self, queue: str) -> Capacity:
        """Return the capacity for chunks from a queue."""
        return self.small if queues.is_small(queue) else self.large
