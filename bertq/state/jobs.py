"""The record of a job in Redis: whether anybody still wants its chunks, and of which model.

A client writes the record together with the first chunk, renews it while it waits, and removes it
when the job is done or given up. A worker looks at it before it computes: what nobody wants any
more, or has already, is dropped. The first answer pins the model's fingerprint in the record, so
that no two models answer to one job.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from bertq.protocol import keys
from bertq.redis.connection import run_script
from bertq.state import counters

ACTIVE = b"active"
CANCELLED = b"cancelled"

# A record that is gone must not come back as one that holds nothing but a fingerprint.
_PIN = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  return ARGV[1]
end
redis.call('HSETNX', KEYS[1], 'fingerprint', ARGV[1])
return redis.call('HGET', KEYS[1], 'fingerprint')
"""


# Looks, and counts in one step: a chunk that is new as begun, another one as delivered again. The
# field of a record that is gone must not come into being.
_LOOK = """
local found = redis.call(
  'HMGET', KEYS[1], 'state', 'chunks', 'fingerprint', ARGV[1], ARGV[2])
if found[1] == 'active' then
  if ARGV[3] == 'again' then
    redis.call('HINCRBY', KEYS[1], ARGV[2], 1)
  elseif ARGV[3] == 'new' and not found[4] then
    redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
  end
end
return found
"""

_ATTEMPT = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
end
"""


@dataclass(frozen=True)
class JobRecord:
    """What a worker sees of a job.

    Attributes:
        wanted: whether a chunk of it is worth computing.
        chunks: how many it has.
        fingerprint: of the model that has answered already, or None.
        attempts: how often the chunk that was asked about was begun before.
        returns: how often it had come back to its queue before.
    """

    wanted: bool
    chunks: int
    fingerprint: str | None
    attempts: int = 0
    returns: int = 0


def create(
    redis: Redis,
    job_id: str,
    *,
    client: str,
    queue: str,
    rows: int,
    chunks: int,
    requests: Sequence[int],
    message: str,
) -> int:
    """Write the record of a job, count its requests and send a chunk of it, in one transaction.

    A record that is there already keeps what workers have written into it.

    Args:
        redis: a connection.
        job_id: of the job.
        client: whose it is.
        queue: where its chunks go.
        rows: sentences that were asked for.
        chunks: how many messages it has.
        requests: the sentences of each request that the job is made of and that was not counted
            before.
        message: asks for the chunk.

    Returns:
        How many chunks wait on the queue.
    """
    record: dict[Any, Any] = {"state": ACTIVE, "client": client, "rows": rows, "chunks": chunks}
    with redis.pipeline() as pipe:
        pipe.hset(keys.job(job_id), mapping=record)
        pipe.expire(keys.job(job_id), keys.JOB_TTL)
        if requests:
            counters.count(pipe, client=client, queue=queue, sizes=requests)
        push(pipe, queue, message)
        return int(pipe.execute()[-1])


def push(redis: Any, queue: str, message: str) -> Any:
    """Put a message on a queue, as kombu does; return how many wait on it."""
    return redis.lpush(queue, message)


def read(redis: Redis, job_id: str) -> JobRecord:
    """Look at a job's record; of one that is gone nothing is wanted."""
    fields: Any = redis.hmget(keys.job(job_id), ["state", "chunks", "fingerprint"])
    return _record(*fields)


def look(redis: Redis, job_id: str, chunk: int, delivery: str) -> JobRecord:
    """Look at a job's record for one of its chunks.

    Args:
        redis: a connection.
        job_id: of the job.
        chunk: its number.
        delivery: ``"new"`` counts an attempt of the chunk, if it is the first one; ``"again"`` that
            it has come back to its queue; anything else counts nothing.
    """
    names, fields = [keys.job(job_id)], (keys.attempts(chunk), keys.returns(chunk))
    try:
        found = run_script(redis, _LOOK, names, *fields, delivery)
    except ResponseError:  # Redis takes no writes
        return read(redis, job_id)
    return _record(*found)


def begin(redis: Redis, job_id: str, chunk: int) -> None:
    """Count an attempt of a chunk."""
    run_script(redis, _ATTEMPT, [keys.job(job_id)], keys.attempts(chunk))


def _record(
    state: Any, chunks: Any, fingerprint: Any, attempts: Any = None, returns: Any = None
) -> JobRecord:
    return JobRecord(
        wanted=state == ACTIVE,
        chunks=_number(chunks),
        fingerprint=fingerprint.decode() if fingerprint else None,
        attempts=_number(attempts),
        returns=_number(returns),
    )


def _number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0


def pin(redis: Redis, job_id: str, fingerprint: str) -> str:
    """Pin a job to a model, unless it is pinned already; return the fingerprint that it has."""
    pinned: bytes = run_script(redis, _PIN, [keys.job(job_id)], fingerprint)
    return pinned.decode()


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
