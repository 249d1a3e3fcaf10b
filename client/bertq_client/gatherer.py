"""The thread that collects the results of a client's chunks."""

import logging
import time
from collections.abc import Callable
from typing import Any

from redis import Redis, RedisError

from bertq import jobs, keys, redis_url, wire
from bertq.errors import BertqError, LostResult, ModelMismatch, RemoteError, WireError
from bertq.wire import ChunkResult
from bertq_client import threads
from bertq_client.fleet import Fleet
from bertq_client.registry import Job, Registry

log = logging.getLogger("bertq.client")

#: Seconds of one blocking read of the stream.
_BLOCK = 0.25
#: Notices that are read, and results that are fetched, at once.
_NOTICES, _RESULTS = 256, 8
_RENEW_EVERY = keys.JOB_TTL / 4
_PAUSE = 0.25
#: Seconds that the end of the thread is waited for, and that a stream may be left behind.
_LAST, _LEFT = 1.0, 60


class Gatherer:
    """Reads the reply stream, fetches rows, completes futures.

    It asks Redis for nothing while the client waits for nothing.
    """

    def __init__(
        self,
        url: str,
        redis: Redis,
        client_id: str,
        registry: Registry,
        fleet: Fleet,
        cancel: Callable[[Job], None],
    ) -> None:
        self._url = url
        self._redis = redis
        self._stream = keys.reply(client_id)
        self._registry = registry
        self._fleet = fleet
        self._cancel = cancel
        self._renewed = time.monotonic()
        self._away = False
        self.thread = threads.start(self._run, "gatherer")

    def dismiss(self) -> None:
        """End the thread and remove the stream, after the registry was closed.

        Raises:
            redis.RedisError: Redis is away; the stream expires.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            # Whatever is written ends a blocking read.
            pipe.xadd(self._stream, {"end": ""})
            pipe.expire(self._stream, _LEFT)
            pipe.execute(raise_on_error=False)
        self.thread.join(_LAST)
        self._redis.unlink(self._stream)

    def _run(self) -> None:
        while self._registry.wait():
            try:
                self._fleet.refresh()
                self._renew()
                self._collect()
                self._away = False
            except Exception as error:
                # Nothing may end this thread: every caller would wait for ever.
                if self._registry.closed:
                    break  # the connection was closed to wake it
                self._report(error)
                self._registry.pause(_PAUSE)

    def _report(self, error: Exception) -> None:
        if not isinstance(error, RedisError):
            log.error("results could not be collected; trying again", exc_info=error)
            return
        self._fleet.missed(error)
        if not self._away:
            where = redis_url.redact(self._url)
            log.warning("Redis at %s is away (%s): trying again", where, type(error).__name__)
        self._away = True

    def _renew(self) -> None:
        if time.monotonic() - self._renewed < _RENEW_EVERY:
            return
        recorded = [job.id for job in self._registry.jobs() if job.recorded]
        for job_id in jobs.renew(self._redis, recorded) if recorded else []:
            job = self._registry.get(job_id)
            if job is not None:
                self._fail(job, LostResult("Redis has lost the record of the job: send it again"))
        self._renewed = time.monotonic()

    # -- results

    def _collect(self) -> None:
        # From the beginning: what was taken in is no longer there. After a place in the stream one
        # would miss the notices of a server whose clock is behind that of the one before.
        answer: Any = self._redis.xread(
            {self._stream: "0-0"}, count=_NOTICES, block=int(_BLOCK * 1000)
        )
        # RESP2 answers with a list of streams, RESP3 with a map.
        streams = answer.values() if isinstance(answer, dict) else [item[1] for item in answer]
        for entries in streams:
            notices = entries[0] if entries and isinstance(entries[0], list) else entries
            for first in range(0, len(notices), _RESULTS):
                self._fetch(notices[first : first + _RESULTS])

    def _fetch(self, notices: list[Any]) -> None:
        task_ids = [fields.get(b"task", b"").decode("utf-8", "replace") for _, fields in notices]
        payloads: Any = self._redis.mget([keys.result(task_id) for task_id in task_ids])
        answered = [
            job_id
            for task_id, payload in zip(task_ids, payloads, strict=True)
            if (job_id := self._deliver(task_id, payload)) is not None
        ]
        # Only now that the rows are copied may they go: after a lost connection the same notices
        # are read again.
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.unlink(*[keys.result(task_id) for task_id in task_ids])
            pipe.xdel(self._stream, *[entry for entry, _ in notices])
            for job_id in answered:
                jobs.discard(pipe, job_id)
            pipe.execute()

    def _deliver(self, task_id: str, payload: Any) -> str | None:
        """Take one result in; return the job's id if that was its last."""
        parts = keys.split_task_id(task_id)
        job = self._registry.get(parts[0]) if parts else None
        if parts is None or job is None or job.assembly is None:
            return None  # cancelled, given up, or a chunk that was computed twice
        try:
            if payload is None:
                if parts[1] in job.assembly.missing:
                    raise LostResult(f"the result of chunk {task_id} is gone from Redis")
                return None
            job.assembly.add(parts[1], decode(payload, task_id))
            if job.assembly.missing or self._registry.pop(job.id) is None:
                return None
            job.succeed(job.assembly.rows())
        except Exception as error:
            # Anything else than our own errors is lack of memory: it must not stop the stream.
            known = error if isinstance(error, BertqError) else BertqError(f"no rows: {error!r}")
            self._fail(job, known)
            return None
        return job.id

    def _fail(self, job: Job, error: BertqError) -> None:
        self._registry.pop(job.id)
        job.fail(error)
        self._cancel(job)


def decode(payload: bytes, task_id: str) -> ChunkResult:
    """Return the rows of a stored result.

    Raises:
        RemoteError: the chunk failed in the worker.
        ModelMismatch: the worker has another model than the one that the job is pinned to.
        WireError: the payload is not what a worker stores.
    """
    meta = wire.loads(payload)
    if not isinstance(meta, dict):
        raise WireError(f"the result of chunk {task_id} is a {type(meta).__name__}")
    result = meta.get("result")
    if meta.get("status") == "SUCCESS":
        return ChunkResult.from_wire(result)
    if not isinstance(result, dict):
        raise WireError(f"chunk {task_id} has the state {str(meta.get('status'))[:40]!r}, no rows")
    message = result.get("exc_message")
    first = message[0] if isinstance(message, list) and message else message
    if result.get("exc_type") == ModelMismatch.__name__:
        raise ModelMismatch(str(first or ModelMismatch.__doc__))
    raise RemoteError(str(result.get("exc_type")), str(first or ""), task_id)
