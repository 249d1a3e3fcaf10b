"""Requests to drain a worker: to finish the chunks that it has, take no others, and end.

A request is for one run of a worker. If a supervisor starts the worker again, that run serves.
"""

from contextlib import suppress
from typing import Any

from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.state.worker_info import WorkerInfo


def request(redis: Any, worker: WorkerInfo, max_seconds: float) -> None:
    """Ask a worker to drain; also as part of a pipeline.

    Args:
        redis: a connection, or a pipeline.
        worker: the run of the worker.
        max_seconds: after this time it returns unfinished chunks to their queues.
    """
    redis.set(
        keys.drain(worker.instance), f"{max_seconds:g}", ex=time_to_live.DRAIN_REQUEST_SECONDS
    )


def read(redis: Redis, instance: str) -> float | None:
    """Return the maximum seconds of a request to drain, or None without a request."""
    text: Any = redis.get(keys.drain(instance))
    if text is None:
        return None
    with suppress(ValueError):
        seconds = float(text)
        if 0 <= seconds < float("inf"):
            return seconds
    return None  # not a time: other programs can write the key
