"""The record of a job in Redis: whether the job is active, and which model answers it.

A client writes the record together with the first chunk, renews it while it waits, and removes it
when the job is done or abandoned. A worker reads it before it computes, and drops chunks of jobs
that are cancelled or already answered. The first answer pins the model's fingerprint in the
record, so that no two models answer one job.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from bertq.protocol import keys, scripts, time_to_live
from bertq.redis.connection import run_script, script_command
from bertq.state import queue_expiry

ACTIVE = b"active"
CANCELLED = b"cancelled"

_PIN = scripts.load("pin_job")
_COUNT_DELIVERY = scripts.load("count_delivery")
_COUNT_ATTEMPT = scripts.load("count_attempt")
_CREATE = scripts.load("push", "create_job")
_PUSH = scripts.load("push", "push_chunk")


class Creation(TypedDict):
    """What is written when a job is created.

    Attributes:
        client: id of the client.
        queue: queue of the chunks.
        rows: number of requested sentences.
        chunks: number of chunks.
        message: message of the chunk that is sent.
    """

    client: str
    queue: str
    rows: int
    chunks: int
    message: str


@dataclass(frozen=True)
class JobRecord:
    """The state of a job, for a worker.

    Attributes:
        is_active: whether the job is active.
        chunks: number of chunks.
        fingerprint: fingerprint of the model that has already answered, or None.
        attempts: earlier attempts at the chunk in question.
        redeliveries: its earlier redeliveries.
    """

    is_active: bool
    chunks: int
    fingerprint: str | None
    attempts: int = 0
    redeliveries: int = 0


def create(redis: Redis, job_id: str, **parts: Unpack[Creation]) -> int:
    """Write the record of a job and send one chunk, in one step.

    An existing record retains the fields that workers have written.

    Returns:
        The number of chunks waiting on the queue.
    """
    return int(run_script(redis, _CREATE, *_creation(job_id, parts)))


def creation_command(job_id: str, **parts: Unpack[Creation]) -> tuple[str | float, ...]:
    """Return the command of ``create`` for a server that knows the script."""
    return script_command(_CREATE, *_creation(job_id, parts))


def _creation(job_id: str, parts: Creation) -> tuple[Any, ...]:
    """Return the keys and the arguments of the script."""
    record = ("state", ACTIVE.decode(), "client", parts["client"], "rows", parts["rows"],
              "chunks", parts["chunks"])  # fmt: skip
    limits = (time_to_live.JOB_SECONDS, time_to_live.QUEUE_SECONDS)
    return ([keys.job(job_id), parts["queue"]], parts["message"], *limits, *record)


def push(redis: Any, queue: str, message: str) -> Any:
    """Put a message on a queue, as kombu does; return the number of waiting messages."""
    return run_script(redis, _PUSH, [queue], message, time_to_live.QUEUE_SECONDS)


def withdraw(redis: Redis, queue: str, messages: Iterable[str]) -> int:
    """Take waiting messages off a queue; return how many were there.

    Args:
        redis: a connection.
        queue: name of the queue.
        messages: the messages, exactly as they were sent: a client may remove its own messages, but
            not read those of others.
    """
    with redis.pipeline(transaction=False) as pipe:
        for message in messages:
            pipe.lrem(queue, 0, message)
        return sum(pipe.execute())


def has_chunk(redis: Redis, job_id: str, task_id: str, queue: str, message: str) -> bool:
    """Return whether Redis has a job's record, and one of its chunks or the answer to it.

    Args:
        redis: a connection.
        job_id: id of the job.
        task_id: id of the chunk.
        queue: queue of the chunk.
        message: its message, exactly as it was sent.
    """
    with redis.pipeline(transaction=False) as pipe:
        pipe.exists(keys.job(job_id))
        pipe.hexists(keys.UNACKED, task_id)
        pipe.exists(keys.result(task_id))
        pipe.lpos(queue, message)
        has_record, is_unacked, is_stored, position = pipe.execute(raise_on_error=False)
    for answer in (has_record, is_unacked, is_stored):
        if isinstance(answer, Exception):
            raise answer
    # Without the right to run LPOS, the chunk may be sent twice.
    is_waiting = position is not None and not isinstance(position, NoPermissionError)
    if is_waiting and isinstance(position, Exception):
        raise position
    return bool(has_record and (is_unacked or is_stored or is_waiting))


def read(redis: Redis, job_id: str) -> JobRecord:
    """Return a job's record; a job without one is not active."""
    fields: Any = redis.hmget(keys.job(job_id), ["state", "chunks", "fingerprint"])
    return _record(*fields)


def record_of(task_id: str) -> tuple[str, str, str] | None:
    """Return the key of a chunk's job, and its fields that count attempts and redeliveries.

    Returns:
        None if no client of bertq has made the chunk's id.
    """
    parts = keys.split_task_id(task_id)
    if parts is None:
        return None
    job_id, chunk = parts
    return keys.job(job_id), keys.attempts(chunk), keys.redeliveries(chunk)


def parse(fields: Sequence[bytes | None]) -> JobRecord:
    """Return the record from its fields: state, chunks, fingerprint and those of ``record_of``."""
    return _record(*fields)


def count_delivery(
    redis: Redis, job_id: str, chunk: int, delivery: str, *, queue: str, fingerprint: str
) -> JobRecord:
    """Return a job's record for one of its chunks, and count the delivery of the chunk.

    Nothing is counted if the job must be answered by another model: the record names it, also if no
    chunk is answered yet and the queue has been given to that model.

    Args:
        redis: a connection.
        job_id: id of the job.
        chunk: number of the chunk.
        delivery: ``"new"`` counts an attempt at the chunk, if it is the first one; ``"again"``
            counts a redelivery too; so does ``"uncounted"``, and an earlier attempt is assumed, as
            groups of small requests do not count it; any other value counts nothing.
        queue: queue of the chunk.
        fingerprint: fingerprint of the worker's model.
    """
    names = [keys.job(job_id), keys.claim(queue)]
    fields = (keys.attempts(chunk), keys.redeliveries(chunk))
    try:
        found = run_script(redis, _COUNT_DELIVERY, names, *fields, delivery, fingerprint)
    except ResponseError:  # Redis takes no writes
        return read(redis, job_id)
    return _record(*found)


def count_attempt(redis: Redis, job_id: str, chunk: int) -> None:
    """Count an attempt at a chunk."""
    run_script(redis, _COUNT_ATTEMPT, [keys.job(job_id)], keys.attempts(chunk))


def forget_attempts(redis: Redis, job_id: str, chunk: int) -> None:
    """Forget the attempts at a chunk that a worker has computed without harm, and returns."""
    redis.hdel(keys.job(job_id), keys.attempts(chunk))


def _record(
    state: Any, chunks: Any, fingerprint: Any, attempts: Any = None, redeliveries: Any = None
) -> JobRecord:
    return JobRecord(
        is_active=state == ACTIVE,
        chunks=_number(chunks),
        fingerprint=fingerprint.decode() if fingerprint else None,
        attempts=_number(attempts),
        redeliveries=_number(redeliveries),
    )


def _number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0


def pin(redis: Redis, job_id: str, queue: str, fingerprint: str) -> str:
    """Pin a job to a model, unless it is already pinned, or the queue has been given to another.

    Returns:
        The fingerprint of the model that must answer the job.
    """
    names = [keys.job(job_id), keys.claim(queue)]
    pinned: bytes = run_script(redis, _PIN, names, fingerprint)
    return pinned.decode(errors="replace")  # anybody may have written a claim


def renew(redis: Redis, job_ids: Sequence[str], queues: Iterable[str] = ()) -> list[str]:
    """Extend the life of records, and of the queues of the jobs.

    Returns:
        The ids of the jobs without a record.
    """
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.expire(keys.job(job_id), time_to_live.JOB_SECONDS)
        for name in queues:
            queue_expiry.extend(pipe, name)
        answers = pipe.execute()[: len(job_ids)]
    return [job_id for job_id, alive in zip(job_ids, answers, strict=True) if not alive]


def cancel(redis: Redis, job_id: str) -> None:
    """Cancel a job."""
    with redis.pipeline() as pipe:
        pipe.hset(keys.job(job_id), "state", CANCELLED)
        pipe.expire(keys.job(job_id), time_to_live.JOB_SECONDS)
        pipe.execute()


def discard(redis: Any, job_ids: Iterable[str]) -> None:
    """Remove the records of answered jobs, at least one; also as part of a pipeline."""
    redis.unlink(*map(keys.job, job_ids))
