"""How much a worker takes in: by the rows it holds, not by the number of messages.

Messages differ in size: eight chunks of 256 rows are seconds of work on a CPU, which another worker
could have begun, while dozens of requests of one row must be in the worker at the same time to
fill one batch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertq.protocol import limits, queues

if TYPE_CHECKING:
    from bertq_bert.batches import Budget

#: What may be in the worker: a batch that is computed and one that waits, on each lane. At least a
#: chunk that is computed and one that waits.
_AHEAD = 2

#: Tokens of a short sentence: where a batch is bounded by tokens, so many rows may be in it.
_SHORT = 16

#: Chunks that a lane, and all of them, may have in the worker; each has a thread of its own.
_CHUNKS, _ALL_CHUNKS = 64, 256

#: Requests of one row that there is always room for, however small a batch is.
_SMALL_CHUNKS = 32


@dataclass
class Capacity:
    """What is in the worker of one kind, and whether there is room for more.

    Attributes:
        most_rows: no chunk is taken once so many rows are in; the last one may go over it.
        most_chunks: chunks that may be in.
        rows: rows that are in.
        chunks: chunks that are in.
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
        """How many chunks of small requests may be taken at once."""
        rows = self.most_rows - self.rows
        return max(1, min(self.most_chunks - self.chunks, rows // queues.PRIORITY_BATCH_SIZE))

    def enter(self, rows: int) -> None:
        """Count a chunk that was taken."""
        self.rows += rows
        self.chunks += 1

    def leave(self, rows: int) -> None:
        """Count a chunk off that was answered, or given back."""
        self.rows -= rows
        self.chunks -= 1


class WorkerCapacity:
    """The rooms of a worker: chunks of small requests have one of their own.

    So a small request is taken in, and can go first, while the worker is full of large ones.
    """

    def __init__(self) -> None:
        self.small = Capacity(1, 1)
        self.large = Capacity(1, 1)

    def bound(self, budget: "Budget", lanes: int) -> None:
        """Set the bounds, for batches within a budget on so many lanes."""
        batch = min(budget.rows, -(-budget.tokens // _SHORT))
        chunk = min(budget.rows, limits.CHUNK_ROWS)
        for room in (self.small, self.large):
            room.most_rows = max(_AHEAD * max(batch * lanes, chunk), _SMALL_CHUNKS)
            room.most_chunks = min(_CHUNKS * lanes, _ALL_CHUNKS)

    def room(self, queue: str) -> Capacity:
        """Return the room of the chunks that come from a queue."""
        return self.small if queues.is_small(queue) else self.large
