"""Writes a job to Redis: its record and its chunks; also cancels it."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import TypeVar

from redis import RedisError, ResponseError

from bertq.errors import BertqError, QueueFull, VersionMismatch
from bertq.protocol import keys
from bertq.redis import redis_url
from bertq.state import jobs
from bertq_client import inputs
from bertq_client.context import SessionContext
from bertq_client.inbox.assembly import Assembly
from bertq_client.inputs import Text
from bertq_client.job import Job, Sending
from bertq_client.outbox.deduplication import Deduplicator
from bertq_client.outbox.message import MessageBuilder
from bertq_client.outbox.schedule import Steps
from bertq_client.outbox.window import Window
from bertq_client.worker_directory import choose_format, max_chunk_rows

log = logging.getLogger("bertq.client")

_T = TypeVar("_T")

#: Seconds between two checks whether another chunk may be sent.
_CHECK_INTERVAL_SECONDS = 0.02

#: Seconds for which no other command is tried after one that could not reach Redis. Each attempt
#: may take seconds, and all jobs share one thread.
_UNREACHABLE_SECONDS = 0.25

#: Chunks that are taken off a queue in one step.
_MAX_WITHDRAWN = 16


class JobAbandoned(Exception):
    """The job has no open requests any more, or the client is closed."""


class Writer:
    """The writer of a client's jobs, on the sender's thread.

    Its methods return steps for a ``Schedule``. A step never waits for a reason to continue: it
    yields the seconds until the next attempt.

    Args:
        context: what the threads of the session share.
        on_recorded: called with a job whose record is written.
    """

    def __init__(self, context: SessionContext, on_recorded: Callable[[Job], object]) -> None:
        self._address = redis_url.redact(context.url)
        self._redis = context.redis
        self._counter = context.counter
        self._on_recorded = on_recorded
        self._client_id = context.client_id
        self._registry = context.registry
        self._directory = context.directory
        self._limits = context.limits
        self._window = Window(context.redis, context.registry, context.limits.max_pending_chunks)
        self._message_builder = MessageBuilder(context.client_id)
        self._create_retry = context.retry
        #: why Redis could not be reached, and the monotonic time until which this is assumed
        self._failure: tuple[Exception, float] | None = None
        self._has_warned = False

    def write(self, job: Job) -> Steps:
        """Write a job's record and send its chunks, at most one chunk in each step.

        Raises:
            JobAbandoned: the job has no open requests any more.
            QueueFull: too many chunks are waiting, and the client does not wait.
            VersionMismatch: the workers read no wire format that the client knows.
            BadInputType, BadInputValue: its sentences are invalid.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
        """
        yield from self._plan(job)
        yield from self._send(job)
        self._warn_without_worker(job)

    def cancel(self, job: Job) -> Steps:
        """Cancel a job in Redis, so that workers drop its chunks; remove them if there is none."""
        job_id = job.id
        try:
            yield from self._attempt(lambda: jobs.cancel(self._redis, job_id), self._check_open)
        except BertqError:
            log.debug("job %s could not be cancelled; its record expires", job_id)
        else:
            yield from self.withdraw(job)

    def withdraw(self, job: Job) -> Steps:
        """Take the chunks of a cancelled job off its queue, if no worker serves the queue."""
        if not job.sent_at:
            return
        try:
            if self._directory.serving(job.queue):
                return  # a worker drops them
            numbers = list(job.sent_at)
            for first in range(0, len(numbers), _MAX_WITHDRAWN):
                part = numbers[first : first + _MAX_WITHDRAWN]
                jobs.withdraw(self._redis, job.queue, [self._message(job, it) for it in part])
                yield 0
        except RedisError as error:
            log.debug("the chunks of job %s expire with their queue: %r", job.id, error)

    def resend(self, job: Job, lost: dict[int, Sending], *, only_missing: bool) -> Steps:
        """Write a job's record and send some of its chunks again, under the same ids.

        Args:
            job: the job.
            lost: numbers of the chunks, with the sendings that are lost.
            only_missing: whether to look for each chunk in Redis first.

        Raises:
            JobAbandoned: the job has no open requests any more.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
        """
        assert job.assembly is not None
        for number, sending in lost.items():
            # Otherwise the chunk has been answered or sent again in the meantime.
            if job.pending.get(number) is sending and number in job.assembly.missing:
                if not (only_missing and (yield from self._is_in_redis(job, number))):
                    yield from self._write_record(job, number)
                yield 0

    def _is_in_redis(self, job: Job, number: int) -> Generator[float, None, bool]:
        """Return whether Redis has a job's record, and one of its chunks or the answer to it."""
        place = keys.task_id(job.id, number), job.queue, self._message(job, number)
        return (yield from self._run(job, partial(jobs.has_chunk, self._redis, job.id, *place)))

    def plan_at_once(self, job: Job) -> bool:
        """Plan the only chunk of a job on the caller's thread.

        Returns:
            False if the job needs several chunks, or must perhaps wait for its queue.
        """
        if self._window.may_be_full(job.queue):
            return False
        deduplicator = Deduplicator()
        deduplicator.add(job.texts)
        workers = self._directory.known(job.queue)
        plan = deduplicator.plan_chunks(max_chunk_rows(workers))
        try:
            job.wire = choose_format(workers)
        except VersionMismatch:
            return False  # the sender's thread fails the job
        job.assembly = Assembly(plan)
        return len(plan) == 1

    def creation_command(self, job: Job) -> tuple[str | float, ...]:
        """Return the command that writes the record of a job and sends its only chunk."""
        return jobs.creation_command(job.id, **self._creation(job, 0))

    def finish_creation(self, job: Job, queue_length: int) -> None:
        """Note that the only chunk of a job is sent; the gatherer does not read the answer yet."""
        self._mark_sent(job, 0, queue_length)
        self._on_recorded(job)

    def resume(self, job: Job, read: Callable[[], int] | None) -> Steps:
        """Finish the creation of a job that was begun on the caller's thread.

        Args:
            job: the job.
            read: reads the answer to ``creation_command``; None if it must be sent again.

        Raises:
            JobAbandoned: the job has no open requests any more.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
        """
        if read is not None:
            with suppress(RedisError, OSError):
                self.finish_creation(job, read())
                self._registry.mark_recorded(job)
                return
        yield from self._write_record(job, 0)
        self._mark_recorded(job)

    def send_counters(self) -> Steps:
        """Send the counters of the client's requests to Redis.

        Raises:
            JobAbandoned: the client is closed.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
        """
        yield from self._attempt(lambda: self._counter.send(self._redis), self._check_open)

    def _plan(self, job: Job) -> Steps:
        """Check the sentences of a job, and split them into chunks."""
        workers = yield from self._run(job, lambda: self._directory.serving(job.queue))
        deduplicator, checked = Deduplicator(), list[Text]()
        for part in inputs.checked_parts(job.texts, is_tokenized=job.encoding.is_tokenized):
            deduplicator.add(part)
            checked += part
            yield 0
            self._check_not_abandoned(job)
        job.texts = tuple(checked)
        job.wire = choose_format(workers)
        job.assembly = Assembly(deduplicator.plan_chunks(max_chunk_rows(workers)))

    def _send(self, job: Job) -> Steps:
        """Write the record of a job and send its chunks."""
        assert job.assembly is not None
        yield from self._wait_for_queue(job)
        yield from self._write_record(job, 0)
        self._mark_recorded(job)
        for number in range(1, len(job.assembly.plan)):
            yield 0
            yield from self._wait_for_capacity(job)
            message = self._message(job, number)
            push = partial(jobs.push, self._redis, job.queue, message)
            length = yield from self._run(job, push)
            self._mark_sent(job, number, length)

    def _wait_for_queue(self, job: Job) -> Steps:
        """Wait until the queue accepts the first chunk of a job."""
        if not self._limits.waits:
            length = yield from self._run(job, lambda: self._window.read_length(job.queue))
            if length >= self._limits.max_pending_chunks:
                raise QueueFull(
                    f"{length} chunks wait on queue {job.queue} of {self._address}, at most "
                    f"{self._limits.max_pending_chunks} may: try again later, or let the client "
                    'wait (on_full="wait")'
                )
        has_capacity = partial(self._window.queue_has_capacity, job.queue)
        while not (yield from self._run(job, has_capacity)):
            yield _CHECK_INTERVAL_SECONDS

    def _wait_for_capacity(self, job: Job) -> Steps:
        """Wait until another chunk of a job may be sent."""
        has_capacity = partial(self._window.queue_has_capacity, job.queue)
        while True:
            self._check_not_abandoned(job)
            workers = self._directory.known(job.queue)
            if self._window.client_has_capacity(job.queue, workers) and (
                yield from self._run(job, has_capacity)
            ):
                return
            yield _CHECK_INTERVAL_SECONDS

    def _message(self, job: Job, number: int) -> str:
        assert job.assembly is not None
        texts = [job.texts[index] for index in job.assembly.plan[number].sentences]
        # A chunk always has the same message, so that it can be taken off the queue.
        sent_at = job.sent_at.setdefault(number, time.time())
        return self._message_builder.build(
            keys.task_id(job.id, number),
            texts,
            job.queue,
            job.encoding.to_wire(),
            sent_at,
            job.traceparent,
            job.wire,
        )

    def _write_record(self, job: Job, number: int) -> Steps:
        """Write a job's record and send one of its chunks."""
        parts = self._creation(job, number)
        create = partial(jobs.create, self._redis, job.id, **parts)
        self._mark_sent(job, number, (yield from self._run(job, create)))

    def _creation(self, job: Job, number: int) -> jobs.Creation:
        assert job.assembly is not None
        message = self._message(job, number)
        job.may_be_recorded = True
        return {
            "client": self._client_id, "queue": job.queue, "rows": len(job.texts),
            "chunks": len(job.assembly.plan), "message": message,
        }  # fmt: skip

    def _mark_recorded(self, job: Job) -> None:
        self._on_recorded(job)
        self._registry.mark_recorded(job)

    def _mark_sent(self, job: Job, number: int, queue_length: int) -> None:
        # The last epoch seen: if Redis has lost its data since then, the chunk is sent again.
        self._registry.mark_sent(job, number, self._directory.epoch)
        self._window.set_length(job.queue, queue_length)

    def _check_open(self) -> None:
        if self._registry.is_closed:
            raise JobAbandoned

    def _check_not_abandoned(self, job: Job) -> None:
        self._check_open()
        if not job.open_requests:
            raise JobAbandoned

    def _run(self, job: Job, command: Callable[[], _T]) -> Generator[float, None, _T]:
        """Run a command of Redis, with retries; raises as ``Retry.call``, and JobAbandoned."""
        return (yield from self._attempt(command, partial(self._check_not_abandoned, job)))

    def _attempt(
        self, command: Callable[[], _T], check: Callable[[], object]
    ) -> Generator[float, None, _T]:
        """Run a command of Redis, with retries and a time of its own."""
        attempts = self._create_retry().attempts(partial(self._call, command), check=check)
        return (yield from attempts)

    def _call(self, command: Callable[[], _T]) -> _T:
        """Run a command of Redis, unless another one has just failed to reach it."""
        if self._failure is not None and time.monotonic() < self._failure[1]:
            raise self._failure[0].with_traceback(None)
        try:
            answer = command()
        except (RedisError, OSError) as error:
            if not isinstance(error, ResponseError):
                self._failure = error, time.monotonic() + _UNREACHABLE_SECONDS
            raise
        self._failure = None
        return answer

    def _warn_without_worker(self, job: Job) -> None:
        if self._has_warned or all(request.timeout is not None for request in job.requests):
            return
        try:
            if self._directory.serving(job.queue):
                return
        except RedisError:
            return  # the chunks are sent; the gatherer logs that Redis is unreachable
        self._has_warned = True
        log.warning(
            "no worker takes from queue %s of %s%s: waiting until one is started "
            "(celery -A bertq worker; BertClient(timeout=...) bounds the wait)",
            job.queue, self._address, self._directory.describe_models(),
        )  # fmt: skip
