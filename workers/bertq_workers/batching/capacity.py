"""Limits on the chunks that a worker takes: counted in rows and bytes, not only in messages.

Messages differ in size: eight chunks of 256 rows are seconds of work on a CPU, which another worker
could have begun, while dozens of requests of one row must be in the worker at the same time to fill
one batch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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

#: Maximum bytes of messages in the worker, per lane, and the least for any number of lanes: twice
#: the largest chunk in ASCII for each lane. Decoding a message takes several times its bytes.
_MAX_BYTES_PER_LANE = _BATCHES_PER_LANE * limits.MAX_CHUNK_CHARACTERS
_MIN_MAX_BYTES = 32 * 1024 * 1024

#: Minimum capacity in rows, however small a batch is: for as many requests of one row.
_MIN_ROWS = 32


class ChunkSize(NamedTuple):
    """The size of a chunk: its rows, and the bytes of its message's body."""

    rows: int
    bytes: int


@dataclass
class Capacity:
    """The chunks of one kind in the worker, and the limits on them.

    Attributes:
        max_rows: no chunk is taken once the worker has so many rows; the last chunk may exceed it.
        max_chunks: maximum chunks in the worker.
        max_bytes: no chunk is taken once the worker has so many bytes of messages; the last ones
            may exceed it.
        rows, chunks, bytes: current rows, chunks, and bytes of their messages.
        expected_bytes: expected bytes of the next chunks, after those that came last.
    """

    max_rows: int
    max_chunks: int
    max_bytes: int
    rows: int = 0
    chunks: int = 0
    bytes: int = 0
    expected_bytes: int = 0

    @property
    def is_available(self) -> bool:
        """Whether another chunk may be taken."""
        return (
            self.rows < self.max_rows
            and self.chunks < self.max_chunks
            and self.bytes < self.max_bytes
        )

    @property
    def free_small_chunks(self) -> int:
        """Number of chunks of small requests that may be taken at once."""
        rows = self.max_rows - self.rows
        free = min(self.max_chunks - self.chunks, rows // queues.PRIORITY_BATCH_SIZE)
        if self.expected_bytes:
            free = min(free, (self.max_bytes - self.bytes) // self.expected_bytes)
        return max(1, free)

    def add(self, size: ChunkSize) -> None:
        """Add a chunk that was taken."""
        self.rows += size.rows
        self.chunks += 1
        self.bytes += size.bytes
        self.expected_bytes = max(size.bytes, self.expected_bytes // 2)

    def remove(self, size: ChunkSize) -> None:
        """Remove a chunk that was answered or returned to its queue."""
        self.rows -= size.rows
        self.chunks -= 1
        self.bytes -= size.bytes


class WorkerCapacity:
    """The capacities of a worker; chunks of small requests have their own.

    A worker that is full of large chunks can therefore still take a small request, and compute it
    first.
    """

    def __init__(self) -> None:
        self.small = Capacity(1, 1, 1)
        self.large = Capacity(1, 1, 1)

    @property
    def chunks(self) -> int:
        """The number of chunks in the worker."""
        return self.small.chunks + self.large.chunks

    @property
    def rows(self) -> int:
        """The number of rows in the worker."""
        return self.small.rows + self.large.rows

    @property
    def bytes(self) -> int:
        """The bytes of the messages in the worker."""
        return self.small.bytes + self.large.bytes

    def set_limits(self, budget: "Budget", lanes: int) -> None:
        """Set the limits, for batches within a budget on so many lanes."""
        batch_rows = min(budget.rows, -(-budget.tokens // _SHORT_SENTENCE_TOKENS))
        chunk_rows = min(budget.rows, limits.MAX_CHUNK_ROWS)
        max_rows = max(_BATCHES_PER_LANE * max(batch_rows * lanes, chunk_rows), _MIN_ROWS)
        for capacity in (self.small, self.large):
            capacity.max_rows = max_rows
            capacity.max_chunks = min(_MAX_CHUNKS_PER_LANE * lanes, _MAX_CHUNKS)
            capacity.max_bytes = max(_MAX_BYTES_PER_LANE * lanes, _MIN_MAX_BYTES)
            capacity.expected_bytes = capacity.max_bytes  # until the first chunks have come

    def for_queue(self, queue: str) -> Capacity:
        """Return the capacity for chunks from a queue."""
        return self.small if queues.is_small(queue) else self.large
