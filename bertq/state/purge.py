"""Removal of the waiting chunks of a queue; their callers get an error instead of waiting."""

import json
from dataclasses import dataclass
from typing import Any

from redis import Redis

from bertq.protocol import keys
from bertq.state import jobs, results

#: Name of the error that callers get.
ERROR_NAME = "ChunkPurged"

#: Messages that are removed in one command.
_MAX_MESSAGES = 16


@dataclass(frozen=True)
class Purged:
    """The removed chunks.

    Attributes:
        chunks: number of removed chunks.
        failed: number of removed chunks of active jobs, whose callers get an error.
    """

    chunks: int
    failed: int


def purge(redis: Redis, queue: str) -> Purged:
    """Remove waiting chunks until the queue is empty, and answer each with an error.

    A durable job sends its next chunk after each answer, so all its chunks are removed. Chunks that
    workers have taken are not affected.
    """
    chunks = failed = 0
    while True:
        messages: Any = redis.rpop(queue, _MAX_MESSAGES)
        if not messages:
            return Purged(chunks, failed)
        chunks += len(messages)
        failed += sum(_fail(redis, queue, message) for message in messages)


def _fail(redis: Redis, queue: str, message: bytes) -> bool:
    """Answer a chunk with an error; return False if its job is not active."""
    try:
        content = json.loads(message)
        task_id, reply_to = content["headers"]["id"], content["properties"]["reply_to"]
        job_and_chunk = keys.split_task_id(task_id)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False  # not a chunk
    if job_and_chunk is None or not isinstance(reply_to, str):
        return False
    if not jobs.read(redis, job_and_chunk[0]).is_active:
        return False
    reason = f"an operator has removed the chunk from queue {queue} (bertq purge)"
    payload = results.failure(task_id, ERROR_NAME, reason)
    results.store(redis, task_id, payload, reply_to=reply_to, queue=queue, failed=True)
    return True
