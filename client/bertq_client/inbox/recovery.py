"""Finds the lost chunks of a client, so that they are sent again; renews the records of its jobs.

``bertq.state.lost_chunks`` says how chunks get lost.
"""

import time
from collections.abc import Callable

from bertq.errors import LostResult
from bertq.protocol import keys
from bertq.redis import primary
from bertq.redis.connection import SOCKET_TIMEOUT_SECONDS
from bertq.state import jobs
from bertq.state.lost_chunks import LostChunks, SentChunk
from bertq_client.context import SessionContext
from bertq_client.job import Job

#: Most times that a chunk is sent.
MAX_SENDINGS = 10

#: Seconds between the verifications after a failover: longer than a command takes.
_SECOND_VERIFICATION_SECONDS = SOCKET_TIMEOUT_SECONDS + 1


class Recovery:
    """The search for lost chunks of a client, on the gatherer's thread.

    A chunk is lost if the epoch of Redis has changed since it was sent, if the job's record no
    longer exists, or by the rule of ``LostChunks``. After a failover, and after a restart of Redis,
    all chunks are verified at once, because the latest writes may be lost.

    Args:
        context: what the threads of the session share.
        resend: sends chunks of a job again; with True, only those that Redis does not have.
        fail: fails a job.
    """

    def __init__(
        self,
        context: SessionContext,
        resend: Callable[[Job, list[int], bool], None],
        fail: Callable[[Job, Exception], None],
    ) -> None:
        self._redis = context.redis
        self._registry = context.registry
        self._directory = context.directory
        self._timings = context.timings
        self._resend = resend
        self._fail = fail
        self._lost_chunks = LostChunks(context.timings.lost_after_seconds)
        self._searched_at = time.monotonic()
        self._renewed_at = time.monotonic()
        self._primary = primary.of(context.redis)
        self._changes = self._primary.changes
        self._verifications_at: list[float] = []  # monotonic times, the next one first

    def run(self, *, has_unread_notices: bool = False) -> None:
        """Send lost chunks again, and renew the records of the jobs, if either is due.

        Args:
            has_unread_notices: whether answers may be unread on the reply stream. No chunk is
                searched for then: a small answer is nowhere else.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        now = time.monotonic()
        if now - self._searched_at < self._timings.search_interval_seconds:
            return
        recorded = [job for job in self._registry.jobs() if job.is_recorded]
        if self._is_verification_due(now):
            for job in recorded:
                self._resend(job, list(job.pending), True)
        without_record: set[str] = set()
        if now - self._renewed_at >= self._timings.renewal_interval_seconds:
            if recorded:
                queues = {job.queue for job in recorded}
                without_record.update(jobs.renew(self._redis, [job.id for job in recorded], queues))
            self._renewed_at = now
        lost = {} if has_unread_notices else self._find_lost(recorded)
        for job in recorded:
            numbers = list(job.pending) if job.id in without_record else lost.get(job.id)
            if numbers:
                self.resend(job, numbers)
        self._searched_at = now

    def resend(self, job: Job, numbers: list[int]) -> None:
        """Send lost chunks of a job again, or fail the job if one was sent too many times."""
        for number in numbers:
            sending = job.pending.get(number)
            if sending is not None and sending.count >= MAX_SENDINGS:
                task_id = keys.task_id(job.id, number)
                reason = f"chunk {task_id} was sent {MAX_SENDINGS} times and lost each time"
                self._fail(job, LostResult(f"{reason}: does Redis keep its data?"))
                return
        self._resend(job, numbers, False)

    def _is_verification_due(self, now: float) -> bool:
        """Return whether to look for all chunks now, because Redis has another primary."""
        if self._primary.changes != self._changes:
            self._changes = self._primary.changes
            # The second time, because the other thread may have sent a chunk to the old primary in
            # the meantime.
            self._verifications_at = [now, now + _SECOND_VERIFICATION_SECONDS]
        if not self._verifications_at or now < self._verifications_at[0]:
            return False
        del self._verifications_at[0]
        return True

    def _find_lost(self, recorded: list[Job]) -> dict[str, list[int]]:
        """Return the numbers of the chunks that are lost, by job id."""
        lost: dict[str, list[int]] = {}
        others: dict[SentChunk, tuple[Job, int]] = {}
        epoch = self._directory.epoch
        for job in recorded:
            answered = self._registry.answered_position(job.queue)
            # A copy, because the sender's thread adds chunks.
            for number, sending in list(job.pending.items()):
                if sending.epoch != epoch and None not in (sending.epoch, epoch):
                    lost.setdefault(job.id, []).append(number)
                    sending.epoch = epoch  # this change of epoch is now handled
                else:
                    task_id = keys.task_id(job.id, number)
                    chunk = SentChunk(task_id, job.queue, sending.position, answered)
                    others[chunk] = job, number
        for chunk in self._lost_chunks.find(self._redis, others):
            job, number = others[chunk]
            lost.setdefault(job.id, []).append(number)
        return lost
