"""How much is taken in."""

import pytest

from bertq_bert.batches import Budget
from bertq_workers.batching.capacity import Capacity, ChunkSize, WorkerCapacity


def take(capacity: Capacity, rows: int, body_bytes: int = 100) -> int:
    """Take chunks of a size until the capacity is used; return how many were taken."""
    while capacity.is_available:
        capacity.add(ChunkSize(rows, body_bytes))
    return capacity.chunks


@pytest.mark.parametrize(
    ("batch_rows", "tokens", "lanes", "rows", "chunks"),
    [
        (256, 2**20, 1, 256, 2),  # one is computed, one waits
        (256, 2**20, 2, 256, 4),
        (256, 2**20, 1, 150, 4),
        (256, 2**20, 1, 1, 64),
        (256, 2**20, 2, 1, 128),
        (256, 2**20, 64, 1, 256),
        (256, 1024, 2, 256, 2),  # a batch has 64 short sentences
        (256, 1024, 32, 256, 16),
        (8, 2**20, 1, 1, 32),
        (8, 2**20, 1, 8, 4),
        (64, 2**20, 1, 256, 1),
        (512, 2**20, 1, 256, 4),
        (512, 2**20, 1, 4096, 1),
    ],
)
def test_about_two_batches_are_taken(
    batch_rows: int, tokens: int, lanes: int, rows: int, chunks: int
) -> None:
    capacity = WorkerCapacity()
    capacity.set_limits(Budget(batch_rows, tokens, 2**30), lanes)
    assert take(capacity.large, rows) == chunks
    assert capacity.small.is_available
    assert take(capacity.small, 1) >= 32


def test_a_finished_chunk_frees_capacity() -> None:
    capacity = WorkerCapacity()
    capacity.set_limits(Budget(256, 4096, 2**30), 1)
    take(capacity.large, 256)
    capacity.large.remove(ChunkSize(256, 100))
    assert capacity.large.is_available
    capacity.large.remove(ChunkSize(256, 100))
    assert (capacity.rows, capacity.chunks, capacity.bytes) == (0, 0, 0)


def test_the_number_of_small_chunks_is_limited() -> None:
    capacity = Capacity(max_rows=512, max_chunks=64, max_bytes=2**20)
    assert capacity.free_small_chunks == 32
    for _ in range(60):
        capacity.add(ChunkSize(1, 10))
    assert capacity.free_small_chunks == 4
    capacity.add(ChunkSize(440, 10))
    assert (capacity.free_small_chunks, capacity.is_available) == (1, True)


def test_each_queue_has_its_capacity() -> None:
    capacity = WorkerCapacity()
    assert capacity.for_queue("bertq.small") is capacity.small
    assert capacity.for_queue("bertq.news.small") is capacity.small
    assert capacity.for_queue("bertq") is capacity.for_queue("gpu0") is capacity.large


@pytest.mark.parametrize(("lanes", "chunks"), [(1, 8), (2, 8), (16, 32), (64, 128)])
def test_the_bytes_of_messages_are_limited(lanes: int, chunks: int) -> None:
    capacity = WorkerCapacity()
    capacity.set_limits(Budget(256, 2**20, 2**30), lanes)
    # One sentence of the maximum length for a chunk in each.
    for kind in (capacity.small, capacity.large):
        assert take(kind, 1, 4 * 2**20) == chunks


def test_fewer_large_messages_are_taken_in_one_command() -> None:
    capacity = Capacity(max_rows=512, max_chunks=64, max_bytes=32 * 2**20)
    size = ChunkSize(1, 4 * 2**20)
    capacity.add(size)
    assert capacity.free_small_chunks == 7
    capacity.remove(size)
    assert capacity.free_small_chunks == 8
    for _ in range(10):
        capacity.add(ChunkSize(1, 100))
    assert capacity.free_small_chunks > 16
