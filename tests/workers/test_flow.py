"""How much is taken in."""

import pytest

from bertq_bert.batches import Budget
from bertq_workers.batching.capacity import Capacity, WorkerCapacity


def take(room: Capacity, rows: int) -> int:
    """Take chunks of a size until there is no room; return how many went in."""
    while room.open:
        room.enter(rows)
    return room.chunks


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
    flow = WorkerCapacity()
    flow.bound(Budget(batch_rows, tokens, 2**30), lanes)
    assert take(flow.large, rows) == chunks
    assert flow.small.open
    assert take(flow.small, 1) >= 32


def test_a_finished_chunk_frees_capacity() -> None:
    flow = WorkerCapacity()
    flow.bound(Budget(256, 4096, 2**30), 1)
    take(flow.large, 256)
    flow.large.leave(256)
    assert flow.large.open
    flow.large.leave(256)
    assert (flow.large.rows, flow.large.chunks) == (0, 0)


def test_the_number_of_small_chunks_is_limited() -> None:
    room = Capacity(most_rows=512, most_chunks=64)
    assert room.free == 32
    for _ in range(60):
        room.enter(1)
    assert room.free == 4
    room.enter(440)
    assert (room.free, room.open) == (1, True)


def test_each_queue_has_its_capacity() -> None:
    flow = WorkerCapacity()
    assert flow.room("bertq.small") is flow.small
    assert flow.room("bertq.news.small") is flow.small
    assert flow.room("bertq") is flow.room("gpu0") is flow.large
