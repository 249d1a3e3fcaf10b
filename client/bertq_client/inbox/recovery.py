"""Finds lost chunks, so that they are sent again.

A worker takes a message off its queue, and then writes it to ``unacked``. If the worker is killed
in between, the message is lost. Redis may also restart without its data, or with data that is a
second old. A long wait is not a loss: a chunk that waits behind others, or is being computed, is
never sent again.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from redis import Redis

from bertq.errors import LostResult
from bertq.protocol import keys
from bertq.state import jobs
from bertq_client.job import Job, Sent
from bertq_client.registry import Registry
from bertq_client.worker_directory import WorkerDirectory

#: Seconds between two searches for lost chunks.
_EVERY = 1.0

#: Seconds for which a chunk must be neither queued nor unacknowledged nor stored. A worker needs
#: only milliseconds between taking a message and noting it in ``unacked``.
LOST_AFTER = 8.0

#: Most chunks to look up in one search, with two commands each.
_AT_ONCE = 500

#: Most times that a chunk is sent.
_TIMES = 10

_RENEW_EVERY = keys.JOB_TTL_SECONDS / 4


class Recovery:
    """The search for lost chunks of a client, on the gatherer's thread.

    A chunk is lost if

    - the epoch of Redis has changed since it was sent, or the job's record no longer exists;
    - or, for ``LOST_AFTER`` seconds, it is not among the unacknowledged chunks, it has no stored
      rows, and it cannot be waiting: its queue is empty, or later chunks of the queue are answered.
    """

    def __init__(
        self,
        redis: Redis,
        registry: Registry,
        directory: WorkerDirectory,
        resend: Callable[[Job, list[int]], None],
        fail: Callable[[Job, Exception], None],
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._directory = directory
        self._resend = resend
        self._fail = fail
        self._looked = time.monotonic()
        self._renewed = time.monotonic()

    def look(self) -> None:
        """Send lost chunks again, and renew the records of the jobs.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        now = time.monotonic()
        if now - self._looked < _EVERY:
            return
        recorded = [job for job in self._registry.jobs() if job.recorded]
        if now - self._renewed >= _RENEW_EVERY:
            gone = set(jobs.renew(self._redis, [job.id for job in recorded]) if recorded else ())
            self._renewed = now
        else:
            gone = set()
        lost = self._lost(recorded)
        for job in recorded:
            numbers = list(job.pending) if job.id in gone else lost.get(job.id)
            if numbers:
                self.lose(job, numbers)
        self._looked = now

    def lose(self, job: Job, numbers: list[int]) -> None:
        """Send chunks of a job again, or fail the job if one was sent too many times."""
        for number in numbers:
            sent = job.pending.get(number)
            if sent is not None and sent.times >= _TIMES:
                reason = f"chunk {keys.task_id(job.id, number)} was sent {_TIMES} times and lost"
                self._fail(job, LostResult(f"{reason} each time: does Redis keep its data?"))
                return
        self._resend(job, numbers)

    def _lost(self, recorded: list[Job]) -> dict[str, list[int]]:
        """Return the numbers of the chunks that are lost, by job id."""
        lost: dict[str, list[int]] = {}
        suspects: list[tuple[Job, int, Sent]] = []
        epoch = self._directory.epoch
        lengths = self._lengths({job.queue for job in recorded if job.pending})
        for job, number, sent in _pending(recorded):
            if sent.epoch != epoch and None not in (sent.epoch, epoch):
                lost.setdefault(job.id, []).append(number)
                sent.epoch = epoch  # this change of epoch is now handled
            elif not lengths.get(job.queue, 1) or sent.ordinal < self._registry.passed(job.queue):
                suspects.append((job, number, sent))
            else:
                sent.missed = None
        now = time.monotonic()
        suspects = suspects[:_AT_ONCE]
        for (job, number, sent), there in zip(suspects, self._there(suspects), strict=True):
            if there:
                sent.missed = None
            elif sent.missed is None:
                sent.missed = now
            elif now - sent.missed > LOST_AFTER:
                lost.setdefault(job.id, []).append(number)
                sent.missed = None
        return lost

    def _lengths(self, queues: set[str]) -> dict[str, int]:
        """Return the number of messages on each queue."""
        names = sorted(queues)
        if not names:
            return {}
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(name)
            return dict(zip(names, pipe.execute(), strict=True))

    def _there(self, suspects: list[tuple[Job, int, Sent]]) -> list[bool]:
        """Return for each chunk whether it is unacknowledged or its rows are stored."""
        if not suspects:
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            for job, number, _ in suspects:
                task_id = keys.task_id(job.id, number)
                # The client uses the task id as the delivery tag of the message.
                pipe.hexists(keys.UNACKED, task_id)
                pipe.exists(keys.result(task_id))
            answers: list[Any] = pipe.execute()
        return [bool(held or stored) for held, stored in zip(*[iter(answers)] * 2, strict=True)]


def _pending(recorded: list[Job]) -> Iterator[tuple[Job, int, Sent]]:
    for job in recorded:
        # A copy, because the sender's thread adds chunks.
        for number, sent in list(job.pending.items()):
            yield job, number, sent
