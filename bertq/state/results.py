"""Stored results of chunks: each once, with a notice on a reply stream."""

from typing import Any

from redis import Redis

from bertq.protocol import keys, time_to_live, wire
from bertq.state import durable_jobs

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
        ttl: seconds until the result of a request expires; that of a durable job lives as long as
            the job.
    """
    if durable_jobs.is_durable(task_id, reply_to):
        if not queue:
            raise ValueError(f"chunk {task_id} of a durable job names no queue")
        durable_jobs.finish(redis, task_id, payload, queue=queue, failed=failed)
        return
    with redis.pipeline() as pipe:
        pipe.set(keys.result(task_id), payload, ex=ttl)
        if reply_to:
            pipe.xadd(keys.reply(reply_to), notice(task_id, payload))
            pipe.expire(keys.reply(reply_to), ttl)
        pipe.execute()


def notice(task_id: str, payload: bytes) -> dict[Any, Any]:
    """Return the entry for the reply stream that announces a stored result.

    It includes a small result, so that the client need not fetch it.
    """
    entry: dict[Any, Any] = {"task": task_id}
    if len(payload) <= SMALL_RESULT_BYTES:
        entry["result"] = payload
    return entry


def failure(task_id: str, type_name: str, message: str) -> bytes:
    """Return the result of a chunk that failed outside of a worker, in Celery's form."""
    error = {"exc_type": type_name, "exc_message": [message], "exc_module": __name__}
    return wire.dumps(
        {"status": "FAILURE", "result": error, "traceback": None, "children": [],
         "task_id": task_id}
    )  # fmt: skip
