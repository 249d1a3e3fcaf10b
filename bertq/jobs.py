"""The record of a job in Redis: whether anybody still wants its chunks.

A client writes the record before it sends the first chunk, renews it while it waits, and removes it
when the job is done or given up. A worker looks at it before it computes: what nobody wants any
more, or has already, is dropped.
"""

from typing import Any

from redis import Redis

from bertq import keys

ACTIVE = b"active"
CANCELLED = b"cancelled"


def create(redis: Redis, job_id: str, *, client: str, rows: int, chunks: int) -> None:
    """Write the record of a job whose chunks are about to be sent."""
    record: dict[Any, Any] = {"state": ACTIVE, "client": client, "rows": rows, "chunks": chunks}
    with redis.pipeline() as pipe:
        pipe.hset(keys.job(job_id), mapping=record)
        pipe.expire(keys.job(job_id), keys.JOB_TTL)
        pipe.execute()


def renew(redis: Redis, job_ids: list[str]) -> list[str]:
    """Extend the life of records; return the ids of those that are gone."""
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.expire(keys.job(job_id), keys.JOB_TTL)
        answers = pipe.execute()
    return [job_id for job_id, alive in zip(job_ids, answers, strict=True) if not alive]


def cancel(redis: Redis, job_id: str) -> None:
    """Say that the chunks of a job are not wanted any more."""
    with redis.pipeline() as pipe:
        pipe.hset(keys.job(job_id), "state", CANCELLED)
        pipe.expire(keys.job(job_id), keys.JOB_TTL)
        pipe.execute()


def discard(pipe: Any, job_id: str) -> None:
    """Remove the record of a job that is answered, with the other commands of ``pipe``."""
    pipe.unlink(keys.job(job_id))


def is_wanted(redis: Redis, job_id: str) -> bool:
    """Return whether a chunk of the job is worth computing."""
    return redis.hget(keys.job(job_id), "state") == ACTIVE
