"""Monitoring of durable jobs; their clients may have ended.

One worker at a time is the monitor. The workers that answer the first chunks of a durable job put
the further ones on the queue. The monitor sends lost chunks again (see ``bertq.state.lost_chunks``)
and continues jobs that have stopped.
"""

import logging
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from redis import Redis, RedisError

from bertq.protocol import keys, time_to_live
from bertq.redis import lease
from bertq.state import durable_jobs, jobs
from bertq.state.lost_chunks import LOST_AFTER_SECONDS, LostChunks, SentChunk
from bertq_workers.background.redis_thread import RedisThread

log = logging.getLogger("bertq.worker")


@dataclass(frozen=True)
class ActiveJob:
    """An active durable job.

    Attributes:
        id: the job's id.
        queue: the queue of its chunks.
        sent: how many chunks were sent: those with lower numbers.
        unanswered: the numbers of the chunks that were sent and are not answered.
    """

    id: str
    queue: str
    sent: int
    unanswered: list[int]

    @property
    def last_answered(self) -> int:
        """The highest number that is answered, or -1."""
        unanswered = set(self.unanswered)
        return next((n for n in range(self.sent - 1, -1, -1) if n not in unanswered), -1)


class DurableJobMonitor:
    """Sends lost chunks again, and further chunks of jobs that have stopped.

    Args:
        url: address of Redis.
        interval_seconds: time between two checks; three must fit into the lease of the monitor.
        lost_after_seconds: see ``LostChunks``.
    """

    def __init__(
        self,
        url: str,
        interval_seconds: float = time_to_live.WORKER_SECONDS / 3,
        lost_after_seconds: float = LOST_AFTER_SECONDS,
    ) -> None:
        self._name = uuid.uuid4().hex
        self._lost_chunks = LostChunks(lost_after_seconds)
        #: task id of a chunk that was sent again -> how many chunks of its job had been sent before
        self._sent_before: dict[str, int] = {}
        self._thread = RedisThread(
            "bertq-job-monitor",
            url,
            self.check,
            interval_seconds=interval_seconds,
            failure="durable jobs cannot be checked",
            on_stop=self._release,
        )

    def start(self) -> None:
        """Start the thread; further calls have no effect."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the monitoring to another worker; does not wait, so signal handlers may call it."""
        self._thread.stop()

    def check(self, redis: Redis) -> None:
        """Check all durable jobs once, unless another worker is the monitor.

        Raises:
            redis.RedisError: Redis cannot be reached, or refuses a command.
        """
        if lease.take(redis, keys.MONITOR, self._name, time_to_live.WORKER_SECONDS) != self._name:
            # What is known now will be out of date when this worker is the monitor.
            self._lost_chunks.clear()
            self._sent_before.clear()
            return
        found = active_jobs(redis, durable_jobs.ids(redis))
        self._send_lost(redis, found)
        for job in found:
            durable_jobs.feed(redis, job.id, job.queue)

    def _send_lost(self, redis: Redis, found: list[ActiveJob]) -> None:
        """Send the lost chunks of all active jobs again."""
        chunks = {
            keys.task_id(job.id, number): (job, number)
            for job in found
            for number in job.unanswered
        }
        self._sent_before = {
            task_id: sent for task_id, sent in self._sent_before.items() if task_id in chunks
        }
        sent_chunks = [
            SentChunk(
                task_id,
                job.queue,
                # A chunk that was sent again is behind those that had been sent before.
                position=max(number, self._sent_before.get(task_id, 0)),
                answered_position=job.last_answered,
            )
            for task_id, (job, number) in chunks.items()
        ]
        for lost in self._lost_chunks.find(redis, sent_chunks):
            job, number = chunks[lost.task_id]
            if durable_jobs.send_again(redis, job.id, job.queue, number):
                log.warning("chunk %s: lost, sent again", lost.task_id)
            self._sent_before[lost.task_id] = job.sent

    def _release(self, redis: Redis) -> None:
        try:
            lease.release(redis, keys.MONITOR, self._name)
        except (RedisError, OSError):
            log.debug("the lease of the monitor was not released, and will expire")


def active_jobs(redis: Redis, job_ids: Iterable[str]) -> list[ActiveJob]:
    """Return the jobs among ``job_ids`` that are active."""
    ids = list(job_ids)
    with redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(keys.job(job_id), "state", "queue", "next")
        records = pipe.execute()
    active = [(job_id, *record[1:]) for job_id, record in zip(ids, records, strict=True)
              if record[0] == jobs.ACTIVE and None not in record]  # fmt: skip
    with redis.pipeline(transaction=False) as pipe:
        for job_id, _, _ in active:
            pipe.hkeys(keys.messages(job_id))
        answers = pipe.execute()
    found = []
    for (job_id, queue, sent), numbers in zip(active, answers, strict=True):
        # Not written by bertq: skip it.
        with suppress(ValueError):
            unanswered = [number for number in map(int, numbers) if number < int(sent)]
            found.append(ActiveJob(job_id, queue.decode(), int(sent), unanswered))
    return found
