"""Jobs that outlive their client: texts, progress and rows in Redis, for anybody who has the id.

Beside the record that every job has (``bertq.state.jobs``) there is a hash with the message of each
chunk that is not answered yet, the plan of rows and chunks, and a stream of notices under the
job's own name, in place of a client's. All of it expires with the record.

A chunk's message is put on its queue when an earlier chunk of the job is answered: nobody need be
alive but a worker, and a job of any size has a handful of messages on a queue that others use as
well. What was answered and what was sent is told by the hash and one number, ``next``: there is no
state that could contradict it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from bertq.protocol import keys, queues, scripts
from bertq.redis.connection import run_script
from bertq.state import jobs

#: Seconds that a job has to be written, between two signs of life of its writer.
WRITING = 120


@dataclass(frozen=True)
class JobInfo:
    """What is known of a kept job.

    Attributes:
        id: of the job.
        status: ``"waiting"`` (no row is there yet), ``"running"``, ``"done"``, ``"failed"`` (all
            is answered, some of it with an error) or ``"cancelled"``.
        rows: sentences that were asked for.
        done: whose vectors are there.
        failed: whose chunk has failed.
        chunks: messages that the job is made of.
        queue: where they go.
        model: name of the model that is asked for, or None.
        fingerprint: of the model that has answered, or None.
        created: Unix time at which it was submitted, by the clock of Redis.
        expires_in: seconds until it is forgotten.
        bytes: size of its texts and rows in Redis now, without what Redis adds to each key.
        options: fields of ``bertq.protocol.encoding.Encoding`` that are not the defaults, as JSON;
            of a prompt only its length.
    """

    id: str
    status: str
    rows: int
    done: int
    failed: int
    chunks: int
    queue: str
    model: str | None
    fingerprint: str | None
    created: float
    expires_in: float
    bytes: int
    options: str

    @property
    def finished(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.status in ("done", "failed", "cancelled")


def prepare(redis: Redis, job_id: str, messages: Mapping[int, str], *, first: bool) -> None:
    """Write messages of a job that is not committed yet; what is not gone on with expires."""
    with redis.pipeline() as pipe:
        if first:
            pipe.unlink(keys.messages(job_id))
        fields: dict[Any, Any] = dict(messages)
        pipe.hset(keys.messages(job_id), mapping=fields)
        pipe.expire(keys.messages(job_id), WRITING)
        pipe.execute()


def commit(
    redis: Redis,
    job_id: str,
    *,
    client: str,
    queue: str,
    rows: int,
    places: Sequence[int],
    plan: bytes,
    size: int,
    options: str,
    ttl: int,
) -> bool:
    """Write what makes a job of its messages, and send the first of them; in one step.

    Args:
        redis: a connection.
        job_id: of the job, whose messages are written.
        client: whose it is.
        queue: where its chunks go.
        rows: sentences that were asked for.
        places: for each chunk, how many rows it fills.
        plan: says which.
        size: bytes of the messages.
        options: as in ``JobInfo``.
        ttl: seconds that it is kept.

    Returns:
        False if the messages are not there: Redis has lost them meanwhile. Asked twice, it does it
        once.
    """
    record: dict[str, str | int] = {
        "state": jobs.ACTIVE.decode(), "id": job_id, "client": client, "queue": queue,
        "rows": rows, "chunks": len(places), "next": 0, "options": options,
        "bytes": size + len(plan),
    }  # fmt: skip
    record |= {keys.places(chunk): count for chunk, count in enumerate(places)}
    flat = [part for item in record.items() for part in item]
    names = [keys.job(job_id), keys.messages(job_id), keys.plan(job_id), queue, keys.KEPT]
    with redis.pipeline() as pipe:
        pipe.set(keys.plan(job_id), plan, ex=WRITING, nx=True)
        run_script(pipe, scripts.COMMIT, names, ttl, *flat)
        return bool(pipe.execute()[-1])


def finish(redis: Redis, task_id: str, payload: bytes, *, queue: str, failed: bool) -> None:
    """Store a chunk's result, unless there is one, and send further chunks of the job.

    Of a job that is cancelled or gone nothing is stored.
    """
    parts = keys.split_task_id(task_id)
    assert parts is not None  # or it would be no chunk of a kept job
    job_id, chunk = parts
    result = keys.result(task_id)
    names = [keys.job(job_id), keys.messages(job_id), result, keys.reply(job_id), queue]
    with redis.pipeline() as pipe:
        pipe.set(result, payload, ex=WRITING, nx=True)
        run_script(pipe, scripts.FINISH, names, chunk, task_id, len(payload), int(failed))
        pipe.execute()


def is_kept(task_id: str, reply_to: Any) -> bool:
    """Return whether a chunk is one of a kept job: the answers to those go to the job itself."""
    parts = keys.split_task_id(task_id)
    return parts is not None and parts[0] == reply_to


def feed(redis: Any, job_id: str, queue: str) -> None:
    """Send chunks of a job, as many as may be on their way."""
    run_script(redis, scripts.TEND, [keys.job(job_id), keys.messages(job_id), queue])


def send_again(redis: Redis, job_id: str, queue: str, chunk: int) -> bool:
    """Send a chunk that is lost once more; return False if it is answered."""
    return bool(run_script(redis, scripts.SEND_AGAIN, [keys.messages(job_id), queue], chunk))


def ids(redis: Redis) -> list[str]:
    """Return the ids of the jobs that are kept, the first to expire first."""
    members: Any = redis.zrange(keys.KEPT, 0, -1)
    return [member.decode() for member in members]


def read(redis: Redis, job_ids: Sequence[str]) -> list[JobInfo]:
    """Look at jobs; those that are gone are left out."""
    names = ("state", "rows", "done", "failed", "chunks", "queue", "fingerprint", "created",
             "bytes", "options", "id")  # fmt: skip
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hmget(keys.job(job_id), *names)
            pipe.pttl(keys.job(job_id))
        answers = pipe.execute()
    found = zip(answers[::2], answers[1::2], strict=True)
    return [
        _info(dict(zip(names, map(_text, fields), strict=True)), left / 1000)
        for fields, left in found
        if fields[-1] is not None  # of a job that is not kept there is no id in the record
    ]


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


def _info(fields: dict[str, str], left: float) -> JobInfo:
    done, failed = int(fields["done"] or 0), int(fields["failed"] or 0)
    state = fields["state"]
    if state == jobs.ACTIVE.decode():
        state = "running" if done or failed else "waiting"
    return JobInfo(
        id=fields["id"],
        status=state,
        rows=int(fields["rows"]),
        done=done,
        failed=failed,
        chunks=int(fields["chunks"]),
        queue=fields["queue"],
        model=queues.model_of(fields["queue"]),
        fingerprint=fields["fingerprint"] or None,
        created=float(fields["created"]),
        expires_in=max(0.0, left),
        bytes=int(fields["bytes"]),
        options=fields["options"],
    )


def cancel(redis: Redis, info: JobInfo) -> bool:
    """Cancel a job, and remove its texts and rows; return False if it was finished."""
    names = [keys.job(info.id), keys.messages(info.id), keys.plan(info.id), keys.reply(info.id)]
    if not run_script(redis, scripts.CANCEL, names, keys.JOB_TTL):
        return False
    _drop(redis, info)
    return True


def discard(redis: Redis, info: JobInfo) -> None:
    """Remove all that Redis has of a job."""
    forget(redis, info.id)
    _drop(redis, info)


def forget(redis: Redis, job_id: str) -> None:
    """Remove a job of which nothing is answered yet, be it committed or not."""
    names = (keys.job(job_id), keys.messages(job_id), keys.plan(job_id), keys.reply(job_id))
    with redis.pipeline() as pipe:
        pipe.unlink(*names)
        pipe.zrem(keys.KEPT, job_id)
        pipe.execute()


def renew(redis: Redis, info: JobInfo, ttl: int) -> bool:
    """Keep a job for so many seconds from now on; return False if it is gone."""
    now: Any = redis.time()
    with redis.pipeline() as pipe:
        for name in (keys.messages(info.id), keys.plan(info.id), keys.reply(info.id)):
            pipe.expire(name, ttl)
        for name in _results(info):
            pipe.expire(name, ttl)
        pipe.zadd(keys.KEPT, {info.id: now[0] + ttl}, xx=True)
        pipe.expire(keys.KEPT, ttl, gt=True)
        # Last: what is stored from now on lives as long as the record.
        pipe.expire(keys.job(info.id), ttl)
        return bool(pipe.execute()[-1])


def _results(info: JobInfo) -> list[str]:
    return [keys.result(keys.task_id(info.id, chunk)) for chunk in range(info.chunks)]


def _drop(redis: Redis, info: JobInfo) -> None:
    names = _results(info)
    for first in range(0, len(names), 1000):
        redis.unlink(*names[first : first + 1000])
