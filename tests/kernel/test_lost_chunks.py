"""The search for lost chunks, on a real server."""

import time

import pytest
from redis import Redis

from bertq.protocol import keys
from bertq.state.lost_chunks import LostChunks, SentChunk

QUEUE = "bertq"


def chunk(number: int, answered: int = 0, *, position: int | None = None) -> SentChunk:
    return SentChunk(
        f"job-{number}", QUEUE, number if position is None else position, answered_position=answered
    )


def find(search: LostChunks, redis: Redis, *chunks: SentChunk) -> list[SentChunk]:
    """Search until the time for a loss has passed."""
    assert search.find(redis, chunks) == []
    time.sleep(0.15)
    return search.find(redis, chunks)


@pytest.fixture
def search() -> LostChunks:
    return LostChunks(lost_after_seconds=0.1)


def test_chunks_that_are_nowhere_are_lost_after_some_time(redis: Redis, search: LostChunks) -> None:
    assert search.find(redis, []) == []
    assert find(search, redis, chunk(1), chunk(2)) == [chunk(1), chunk(2)]
    # The time begins again with the next sending.
    assert search.find(redis, [chunk(1), chunk(2)]) == []


def test_unacknowledged_and_answered_chunks_are_not_lost(redis: Redis, search: LostChunks) -> None:
    redis.hset(keys.UNACKED, "job-1", "message")
    redis.set(keys.result("job-2"), b"rows")
    assert find(search, redis, chunk(1), chunk(2), chunk(3)) == [chunk(3)]


def test_chunks_may_wait_on_the_queue(redis: Redis, search: LostChunks) -> None:
    redis.lpush(QUEUE, "message")
    assert find(search, redis, chunk(1), chunk(2)) == []
    # Later chunks are answered: the first one has left the queue.
    assert find(search, redis, chunk(1, 2), chunk(3, 2)) == [chunk(1, 2)]


def test_the_time_begins_anew_when_a_chunk_was_found_or_sent_again(
    redis: Redis, search: LostChunks
) -> None:
    assert search.find(redis, [chunk(1)]) == []
    redis.hset(keys.UNACKED, "job-1", "message")
    time.sleep(0.15)
    assert search.find(redis, [chunk(1)]) == []
    redis.delete(keys.UNACKED)
    assert search.find(redis, [chunk(1)]) == []
    time.sleep(0.15)
    assert search.find(redis, [chunk(1, position=7)]) == []


def test_a_cleared_search_begins_anew(redis: Redis, search: LostChunks) -> None:
    assert search.find(redis, [chunk(1)]) == []
    time.sleep(0.15)
    search.clear()
    assert search.find(redis, [chunk(1)]) == []
