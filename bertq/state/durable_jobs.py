"""Durable jobs: texts, progress and rows in Redis, for any process that has the job's id.

In addition to the record of every job (``bertq.state.jobs``), Redis has a hash with the messages of
unanswered chunks, the plan of rows and chunks, and a stream of notices under the job's id instead
of the client's. All of it expires with the record.

When a chunk is answered, Redis puts the message of a further chunk on the queue. So only a worker
needs to be alive, and a job of any size has only a few messages on a queue that others also use.
The hash and one number, ``next``, say which chunks were sent and which were answered; there is no
other state that could contradict them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis, ResponseError
from redis.exceptions import NoPermissionError

from bertq.protocol import keys, queues, scripts, time_to_live
from bertq.redis.connection import run_script
from bertq.redis.outage import code
from bertq.state import jobs, queue_expiry

#: Seconds that the parts of an uncommitted job are stored after its latest write.
WRITE_TTL_SECONDS = 120

#: Minimum number of chunks of a job that are sent and not answered. More are sent while fewer than
#: ``MAX_QUEUED_CHUNKS`` chunks, of any job, wait on the queue.
MIN_SENT_CHUNKS, MAX_QUEUED_CHUNKS = 4, 64

#: Keys of results in one command or pipeline.
_MAX_GROUP = 1000

#: Fields of a record that are written in one transaction.
_MAX_FIELDS = 10_000

#: Milliseconds of one wait for a replica.
_WAIT_MILLISECONDS = 500

#: Bytes of a plan in one command.
_MAX_PLAN_BYTES = 1 << 20

_COMMIT = scripts.load("push", "feed", "commit_job")
_FINISH = scripts.load("push", "feed", "finish_chunk")
_FEED = scripts.load("push", "feed", "feed_job")
_SEND_AGAIN = scripts.load("push", "send_again")
_CANCEL = scripts.load("withdraw", "cancel_job")
_REMOVE = scripts.load("withdraw", "remove_job")

#: The last arguments of the scripts that send chunks.
_FEED_LIMITS = (MIN_SENT_CHUNKS, MAX_QUEUED_CHUNKS, time_to_live.QUEUE_SECONDS)


@dataclass(frozen=True)
class JobInfo:
    """The state of a durable job.

    Attributes:
        id: id of the job.
        status: ``"waiting"`` (no row yet), ``"running"``, ``"done"``, ``"failed"`` (all chunks are
            answered, some with an error) or ``"cancelled"``.
        rows: number of requested sentences.
        done: number of sentences with a row.
        failed: number of sentences in failed chunks.
        chunks: number of messages.
        queue: queue of the chunks.
        model: name of the requested model, or None.
        fingerprint: fingerprint of the model that has answered, or None.
        created: Unix time of submission, by the clock of Redis.
        expires_in: seconds until the job expires.
        bytes: current size of the texts and rows in Redis, without Redis's overhead for each key.
        options: fields of ``bertq.protocol.encoding.Encoding`` that are not the defaults, as JSON;
            only the length of a prompt.
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
        """Whether the job has reached its final state."""
        return self.status in ("done", "failed", "cancelled")


def write_messages(redis: Redis, job_id: str, messages: Mapping[int, str], *, first: bool) -> None:
    """Write messages of a job before ``commit``; they expire if no others follow."""
    with redis.pipeline() as pipe:
        if first:
            pipe.unlink(keys.messages(job_id))
        fields: dict[Any, Any] = dict(messages)
        pipe.hset(keys.messages(job_id), mapping=fields)
        pipe.expire(keys.messages(job_id), WRITE_TTL_SECONDS)
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
    """Create a job from its messages, and send the first of them, in one step.

    Args:
        redis: a connection.
        job_id: id of the job; its messages are already written.
        client: id of the client.
        queue: queue of the chunks.
        rows: number of requested sentences.
        places: number of rows that each chunk fills.
        plan: says which rows these are.
        size: bytes of the messages.
        options: as in ``JobInfo``.
        ttl: seconds until the job expires.

    Returns:
        False if Redis has lost the messages in the meantime. A second call changes nothing.
    """
    record: dict[str, str | int] = {
        "state": jobs.ACTIVE.decode(), "id": job_id, "client": client, "queue": queue,
        "rows": rows, "chunks": len(places), "next": 0, "options": options,
        "bytes": size + len(plan),
    }  # fmt: skip
    for first in range(0, len(places), _MAX_FIELDS):
        part = places[first : first + _MAX_FIELDS]
        counts = {keys.places(chunk): rows for chunk, rows in enumerate(part, first)}
        _write_fields(redis, keys.job(job_id), counts)
    starts = range(0, len(plan), _MAX_PLAN_BYTES)
    for number, first in enumerate(starts):
        part_of_plan = {str(number): plan[first : first + _MAX_PLAN_BYTES]}
        _write_fields(redis, keys.plan(job_id), part_of_plan)
    fields = [text for item in record.items() for text in item]
    names = [keys.job(job_id), keys.messages(job_id), keys.plan(job_id), queue, keys.DURABLE_JOBS]
    return bool(run_script(redis, _COMMIT, names, ttl, *_FEED_LIMITS, len(starts), *fields))


def replicate(redis: Redis, job_id: str) -> tuple[bool, bool]:
    """Wait, for a moment, until a replica has a job; at once if Redis has no replica.

    Returns:
        Whether Redis has the job, and whether a replica has confirmed it, or there is none.
    """
    try:
        replication: Any = redis.info("replication")
    except NoPermissionError:
        replication = {}
    numbers = range(replication.get("connected_slaves", 0))
    has_replica = any(replication[f"slave{number}"]["state"] == "online" for number in numbers)
    with redis.pipeline(transaction=False) as pipe:
        pipe.exists(keys.job(job_id))
        # WAIT is about the writes of its own connection, and of all before them.
        pipe.set(keys.PROBE, "", ex=1)
        if has_replica:
            pipe.wait(1, _WAIT_MILLISECONDS)
        has_job, _, *confirmed = pipe.execute()
    return bool(has_job), not confirmed or confirmed[0] > 0


def _write_fields(redis: Redis, name: str, fields: Mapping[str, int | bytes]) -> None:
    """Write some fields of a hash before ``commit``; it expires if nothing follows."""
    mapping: dict[Any, Any] = dict(fields)
    with redis.pipeline() as pipe:
        pipe.hset(name, mapping=mapping)
        # Never shorter: the job may be committed already, if the answer was lost.
        queue_expiry.extend(pipe, name, WRITE_TTL_SECONDS)
        pipe.execute()


def read_plan(redis: Redis, job_id: str) -> bytes | None:
    """Return the plan of a job; None if Redis does not have it."""
    name = keys.plan(job_id)
    try:
        count: Any = redis.hlen(name)
        parts: list[Any] = [redis.hget(name, str(number)) for number in range(count)]
    except ResponseError as error:
        if code(error) != "WRONGTYPE":
            raise
        # A job of an earlier version: the plan is one string.
        found: bytes | None = redis.get(name)  # type: ignore[assignment]  # replies are bytes
        return found
    return None if None in parts else b"".join(parts) or None


def finish(redis: Redis, task_id: str, payload: bytes, *, queue: str, failed: bool) -> None:
    """Store a chunk's result, unless there is one, and send further chunks of the job.

    If the job is cancelled or has expired, nothing is stored.
    """
    job_and_chunk = keys.split_task_id(task_id)
    assert job_and_chunk is not None  # every chunk of a durable job has such an id
    job_id, chunk = job_and_chunk
    result = keys.result(task_id)
    names = [keys.job(job_id), keys.messages(job_id), result, keys.reply(job_id), queue]
    with redis.pipeline() as pipe:
        pipe.set(result, payload, ex=WRITE_TTL_SECONDS, nx=True)
        arguments = (chunk, task_id, len(payload), int(failed), *_FEED_LIMITS)
        run_script(pipe, _FINISH, names, *arguments)
        pipe.execute()


def is_durable(task_id: str, reply_to: Any) -> bool:
    """Return whether a chunk belongs to a durable job: the job's own stream gets the answer."""
    job_and_chunk = keys.split_task_id(task_id)
    return job_and_chunk is not None and job_and_chunk[0] == reply_to


def feed(redis: Any, job_id: str, queue: str) -> None:
    """Send as many chunks of a job as the limits allow."""
    names = [keys.job(job_id), keys.messages(job_id), queue]
    run_script(redis, _FEED, names, *_FEED_LIMITS)


def send_again(redis: Redis, job_id: str, queue: str, chunk: int) -> bool:
    """Send a lost chunk again; return False if it is answered."""
    names = [keys.messages(job_id), queue]
    return bool(run_script(redis, _SEND_AGAIN, names, chunk, time_to_live.QUEUE_SECONDS))


def ids(redis: Redis) -> list[str]:
    """Return the ids of the durable jobs, the first to expire first."""
    members: Any = redis.zrange(keys.DURABLE_JOBS, 0, -1)
    return [member.decode(errors="replace") for member in members]


def read(redis: Redis, job_ids: Sequence[str]) -> list[JobInfo]:
    """Return information about jobs, without the expired ones."""
    names = ("state", "rows", "done", "failed", "chunks", "queue", "fingerprint", "created",
             "bytes", "options", "id")  # fmt: skip
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hmget(keys.job(job_id), *names)
            pipe.pttl(keys.job(job_id))
        answers = pipe.execute()
    found = zip(answers[::2], answers[1::2], strict=True)
    return [
        _info(dict(zip(names, map(_text, fields), strict=True)), milliseconds / 1000)
        for fields, milliseconds in found
        if fields[-1] is not None  # the record of other jobs has no id
    ]


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


def _info(fields: dict[str, str], seconds_left: float) -> JobInfo:
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
        expires_in=max(0.0, seconds_left),
        bytes=int(fields["bytes"]),
        options=fields["options"],
    )


def cancel(redis: Redis, info: JobInfo) -> bool:
    """Cancel a job and remove its texts and rows; return False if it was finished."""
    names = [*_parts(info.id), info.queue]
    if not run_script(redis, _CANCEL, names, time_to_live.JOB_SECONDS):
        return False
    _remove_results(redis, info)
    return True


def discard(redis: Redis, info: JobInfo) -> None:
    """Remove all data of a job from Redis."""
    remove(redis, info.id, info.queue)
    _remove_results(redis, info)


def remove(redis: Redis, job_id: str, queue: str) -> None:
    """Remove a job without any answer, whether committed or not."""
    run_script(redis, _REMOVE, [*_parts(job_id), queue, keys.DURABLE_JOBS], job_id)


def renew(redis: Redis, info: JobInfo, ttl: int) -> bool:
    """Extend a job's life to ``ttl`` seconds from now; return False if it has expired."""
    now: Any = redis.time()
    with redis.pipeline() as pipe:
        # New results, and messages that are sent later, live as long as the record.
        pipe.expire(keys.job(info.id), ttl)
        for name in (keys.messages(info.id), keys.plan(info.id), keys.reply(info.id)):
            pipe.expire(name, ttl)
        pipe.zadd(keys.DURABLE_JOBS, {info.id: now[0] + ttl}, xx=True)
        queue_expiry.extend(pipe, keys.DURABLE_JOBS, ttl)
        queue_expiry.extend(pipe, info.queue, max(ttl, time_to_live.QUEUE_SECONDS))
        has_record = bool(pipe.execute()[0])
    for names in _result_groups(info):
        with redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.expire(name, ttl)
            pipe.execute()
    return has_record


def _parts(job_id: str) -> list[str]:
    """Return the keys of a job: record, messages, plan and stream of notices."""
    return [keys.job(job_id), keys.messages(job_id), keys.plan(job_id), keys.reply(job_id)]


def _result_groups(info: JobInfo) -> Iterator[list[str]]:
    """Return the keys of a job's results, in groups that do not block Redis for long."""
    for first in range(0, info.chunks, _MAX_GROUP):
        chunks = range(first, min(first + _MAX_GROUP, info.chunks))
        yield [keys.result(keys.task_id(info.id, chunk)) for chunk in chunks]


def _remove_results(redis: Redis, info: JobInfo) -> None:
    for names in _result_groups(info):
        redis.unlink(*names)
