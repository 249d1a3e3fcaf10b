"""Monitoring of durable jobs; their clients may have ended.

One worker at a time is the monitor. The workers that answer the first chunks of a durable job put
the further ones on the queue. A dying worker may lose such a message (see
``bertq_client.inbox.recovery``); the monitor finds lost chunks by the same rule.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from redis import Redis, RedisError

from bertq.protocol import keys
from bertq.redis import lease
from bertq.redis.connection import connect
from bertq.redis.outage import code
from bertq.state import durable_jobs, jobs
from bertq_workers.celery_compat.wakeup import WakeUp

log = logging.getLogger("bertq.worker")

#: Seconds between two checks; three checks fit into the lease of the monitor.
EVERY = keys.WORKER_TTL_SECONDS / 3

#: Seconds for which a chunk must be neither on a queue, nor unacknowledged, nor answered.
LOST_AFTER = 8.0



@dataclass
class Watched:
    """The state of a job between two checks.

    Attributes:
        missed: chunk -> when it was first found missing, on the monotonic clock.
        sent_again: chunk -> how many chunks of the job had been sent when it was sent again.
    """

    missed: dict[int, float] = field(default_factory=dict)
    sent_again: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """An active durable job with chunks that are not answered.

    Attributes:
        id: the job's id.
        queue: the queue of its chunks.
        sent: how many chunks were sent: those with lower numbers.
        missing: the numbers of the chunks that were sent and are not answered.
    """

    id: str
    queue: str
    sent: int
    missing: list[int]

    @property
    def passed(self) -> int:
        """The highest number that is answered, or -1; earlier chunks have left the queue."""
        open_ = set(self.missing)
        return next((n for n in range(self.sent - 1, -1, -1) if n not in open_), -1)


class DurableJobMonitor:
    """Sends lost chunks again, and further chunks of jobs that have stopped.

    Args:
        url: returns the address of Redis; called when the thread starts.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._name = uuid.uuid4().hex
        self._ended = False
        self._bell = WakeUp()
        self._watched: dict[str, Watched] = {}
        self._thread = threading.Thread(target=self._run, name="bertq-tender", daemon=True)

    def start(self) -> None:
        """Start the thread; further calls have no effect."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Leave the monitoring to another worker; does not wait, so signal handlers may call it."""
        self._ended = True
        self._bell.ring()

    def _run(self) -> None:
        silent = False
        with connect(self._url()) as redis:
            while not self._ended:
                try:
                    self.look(redis)
                    silent = False
                except Exception as error:  # the thread must not end
                    if not silent:
                        log.warning("kept jobs cannot be looked after: %s", code(error))
                    silent = True
                self._bell.wait(EVERY)
            try:
                lease.release(redis, keys.MONITOR, self._name)
            except RedisError:
                log.debug("the task of looking after jobs is left to expire")

    def look(self, redis: Redis) -> None:
        """Check all durable jobs once, unless another worker is the monitor.

        Raises:
            redis.RedisError: Redis cannot be reached, or refuses a command.
        """
        if lease.take(redis, keys.MONITOR, self._name, keys.WORKER_TTL_SECONDS) != self._name:
            self._watched.clear()  # it would be out of date next time
            return
        found = running(redis, durable_jobs.ids(redis))
        self._watched = {job.id: self._watched.get(job.id, Watched()) for job in found}
        idle = _idle(redis, {job.queue for job in found})
        for job in found:
            for chunk in self._lost(redis, job, idle=job.queue in idle):
                if durable_jobs.send_again(redis, job.id, job.queue, chunk):
                    log.warning("chunk %s: lost, sent again", keys.task_id(job.id, chunk))
            durable_jobs.feed(redis, job.id, job.queue)

    def _lost(self, redis: Redis, job: Running, *, idle: bool) -> list[int]:
        """Return the lost chunks of a job, by the rule of the module."""
        watched, passed, now = self._watched[job.id], job.passed, time.monotonic()
        suspects = [
            chunk
            for chunk in job.missing
            # A chunk that was sent again is behind those that had been sent before.
            if idle or max(chunk, watched.sent_again.get(chunk, 0)) < passed
        ]
        held = _held(redis, job.id, suspects)
        missed = {chunk: watched.missed.get(chunk, now) for chunk in suspects if chunk not in held}
        lost = [chunk for chunk, since in missed.items() if now - since > LOST_AFTER]
        for chunk in lost:
            del missed[chunk]
            watched.sent_again[chunk] = job.sent
        watched.missed = missed
        return lost


def running(redis: Redis, job_ids: Iterable[str]) -> list[Running]:
    """Return the jobs among ``job_ids`` that are active, with their unanswered chunks."""
    names = list(job_ids)
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hmget(keys.job(name), "state", "queue", "next")
        records = pipe.execute()
    active = [(name, *record[1:]) for name, record in zip(names, records, strict=True)
              if record[0] == jobs.ACTIVE and None not in record]  # fmt: skip
    with redis.pipeline(transaction=False) as pipe:
        for name, _, _ in active:
            pipe.hkeys(keys.messages(name))
        answers = pipe.execute()
    return [
        Running(name, queue.decode(), int(sent), [n for n in map(int, numbers) if n < int(sent)])
        for (name, queue, sent), numbers in zip(active, answers, strict=True)
    ]


def _idle(redis: Redis, queues: set[str]) -> set[str]:
    """Return the queues that are empty."""
    names = sorted(queues)
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(name)
        return {name for name, length in zip(names, pipe.execute(), strict=True) if not length}


def _held(redis: Redis, job_id: str, chunks: list[int]) -> set[int]:
    """Return the chunks that are unacknowledged; the tag of a message is the id of its task."""
    with redis.pipeline(transaction=False) as pipe:
        for chunk in chunks:
            pipe.hexists(keys.UNACKED, keys.task_id(job_id, chunk))
        return {chunk for chunk, held in zip(chunks, pipe.execute(), strict=True) if held}
