"""The seconds that the waiting chunks of a queue take."""

from dataclasses import replace

import pytest
from redis import Redis

from bertq.state import backlog, status, worker_info
from bertq.state.worker_info import WorkerInfo, WorkerStats
from tests.client.stub import info


def worker(rate: float, size: float = 200, small_size: float = 4) -> WorkerInfo:
    work = WorkerStats(
        max_sentences_per_second=rate, chunk_sentences=size, small_chunk_sentences=small_size
    )
    return replace(info(["bertq", "bertq.small", "cpu0"]), node=f"{rate}@x", work=work)


@pytest.mark.parametrize(
    ("queue", "workers", "seconds"),
    [
        ("bertq", [worker(100)], 10 * 200 / 100),
        ("bertq.small", [worker(100)], 10 * 4 / 100),
        ("bertq", [worker(100, 100), worker(300, 200)], 10 * 150 / 400),
        # One has not computed yet: it counts like the others.
        ("bertq", [worker(100), worker(0, 0, 0)], 10 * 200 / 200),
        # No chunk of this kind was computed yet: large ones are full, small ones have a sentence.
        ("bertq", [worker(100, 0, 4)], 10 * 256 / 100),
        ("bertq.small", [worker(100, 200, 0)], 10 * 1 / 100),
        ("bertq", [worker(0, 0, 0)], None),
        ("gpu7", [worker(100)], None),
        ("bertq", [], None),
    ],
)
def test_seconds_of_ten_chunks(
    queue: str, workers: list[WorkerInfo], seconds: float | None
) -> None:
    assert backlog.waiting_seconds(queue, 10, workers) == seconds
    assert backlog.waiting_seconds(queue, 0, workers) == 0


def test_the_status_has_the_seconds(redis: Redis) -> None:
    worker_info.publish(redis, worker(100))
    redis.lpush("bertq", *range(3))
    redis.lpush("gpu7", "x")
    redis.zadd("bertq:queues", {"gpu7": 1})
    found = status.read(redis).document()["queues"]
    assert found["bertq"]["waiting_seconds"] == 6
    assert found["bertq.small"]["waiting_seconds"] == 0
    assert found["gpu7"]["waiting_seconds"] is None
