"""Results of chunks, and the notices on reply streams that announce them.

A large result has a key, and the notice names it. A small result is in the notice; it also has a
key, unless the client has said that it reads small results from notices alone.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from bertq.protocol import keys, time_to_live, wire
from bertq.state import durable_jobs

#: How often a worker renews a stream that it writes to, and how many streams it remembers.
_RENEWALS_PER_TTL, _MAX_STREAMS = 10, 10_000

#: Maximum bytes of a result that is copied into the notice, to save the client a round trip.
SMALL_RESULT_BYTES = 64 * 1024


def store(
    redis: Redis,
    task_id: str,
    payload: bytes,
    *,
    reply_to: str | None,
    queue: str | None,
    failed: bool,
    once: bool = False,
    ttl: int = time_to_live.RESULT_SECONDS,
) -> None:
    """Store the final result of a chunk, and announce it.

    Args:
        redis: a connection.
        task_id: id of the chunk.
        payload: the result, as from ``wire.dumps``.
        reply_to: name of the reply stream, or None.
        queue: queue of the chunk; only a chunk of a durable job needs it.
        failed: whether the result is an error.
        once: whether the client reads a small result from the notice alone.
        ttl: seconds until the result of a request expires; that of a durable job lives as long as
            the job.
    """
    if durable_jobs.is_durable(task_id, reply_to):
        if not queue:
            raise ValueError(f"chunk {task_id} of a durable job names no queue")
        durable_jobs.finish(redis, task_id, payload, queue=queue, failed=failed)
        return
    entry = notice(task_id, payload, once=once)
    with redis.pipeline() as pipe:
        if _needs_key(entry) or not reply_to:
            pipe.set(keys.result(task_id), payload, ex=ttl)
        if reply_to:
            pipe.xadd(keys.reply(reply_to), entry)
            pipe.expire(keys.reply(reply_to), ttl)
        pipe.execute()


def notice(task_id: str, payload: bytes, *, once: bool = False) -> dict[Any, Any]:
    """Return the entry for the reply stream that announces a stored result.

    It includes a small result, so that the client need not fetch it.

    Args:
        task_id: id of the chunk.
        payload: the result.
        once: whether a small result has no key.
    """
    entry: dict[Any, Any] = {"task": task_id}
    if len(payload) <= SMALL_RESULT_BYTES:
        entry["result"] = payload
        if once:
            entry["once"] = 1
    return entry


def _needs_key(entry: dict[Any, Any]) -> bool:
    """Return whether a result has a key beside its notice."""
    return "once" not in entry


@dataclass(frozen=True)
class ComputedChunk:
    """A chunk of a request, with its result.

    Attributes:
        task_id: id of the chunk.
        payload: the result, as from ``wire.dumps``.
        reply_to: name of the reply stream.
        once: whether the client reads a small result from the notice alone.
    """

    task_id: str
    payload: bytes
    reply_to: str
    once: bool


class ResultWriter:
    """Stores results of chunks that were computed together, with one command for a small result.

    Streams are not renewed each time: that would be one more command for each request.
    """

    def __init__(self, ttl: int = time_to_live.RESULT_SECONDS) -> None:
        self._ttl = ttl
        #: by stream: the monotonic time at which this process has renewed it
        self._renewed_at: dict[str, float] = {}

    def store(self, redis: Redis, chunks: Sequence[ComputedChunk]) -> None:
        """Store the results of chunks of requests, and announce them.

        Raises:
            redis.RedisError: not all are stored; it is safe to store all of them again.
        """
        entries = [notice(chunk.task_id, chunk.payload, once=chunk.once) for chunk in chunks]
        with redis.pipeline(transaction=False) as pipe:
            for stream in {keys.reply(chunk.reply_to) for chunk in chunks}:
                if self._needs_renewal(stream):
                    pipe.expire(stream, self._ttl)
            # A notice must not come before its result.
            for chunk, entry in zip(chunks, entries, strict=True):
                if _needs_key(entry):
                    pipe.set(keys.result(chunk.task_id), chunk.payload, ex=self._ttl)
            for chunk, entry in zip(chunks, entries, strict=True):
                pipe.xadd(keys.reply(chunk.reply_to), entry, nomkstream=True)
            entry_ids = pipe.execute()[-len(chunks) :]
        # XADD returns None for a stream that does not exist, which needs a time to live.
        if None not in entry_ids:
            return
        with redis.pipeline() as pipe:
            for chunk, entry, entry_id in zip(chunks, entries, entry_ids, strict=True):
                if entry_id is None:
                    pipe.xadd(keys.reply(chunk.reply_to), entry)
                    pipe.expire(keys.reply(chunk.reply_to), self._ttl)
            pipe.execute()

    def _needs_renewal(self, stream: str) -> bool:
        now = time.monotonic()
        if now - self._renewed_at.get(stream, -math.inf) < self._ttl / _RENEWALS_PER_TTL:
            return False
        if len(self._renewed_at) >= _MAX_STREAMS:
            self._renewed_at.clear()
        self._renewed_at[stream] = now
        return True


def success(task_id: str, result: wire.ChunkResult) -> bytes:
    """Return the result of a chunk in Celery's form."""
    return wire.dumps(
        {"status": "SUCCESS", "result": result.to_wire(), "traceback": None, "children": [],
         "task_id": task_id}
    )  # fmt: skip


def failure(task_id: str, type_name: str, message: str) -> bytes:
    """Return the result of a chunk that failed outside of a worker, in Celery's form."""
    error = {"exc_type": type_name, "exc_message": [message], "exc_module": __name__}
    return wire.dumps(
        {"status": "FAILURE", "result": error, "traceback": None, "children": [],
         "task_id": task_id}
    )  # fmt: skip
