"""Writes a job to Redis: its record and its chunks; also cancels it."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from redis import RedisError

from bertq.errors import QueueFull
from bertq.protocol import keys
from bertq.redis import redis_url
from bertq.state import jobs
from bertq_client import inputs
from bertq_client.context import SessionContext
from bertq_client.inbox.assembly import Assembly, Deduplicator
from bertq_client.job import Job, Sending
from bertq_client.outbox.message import MessageBuilder
from bertq_client.outbox.window import Window
from bertq_client.worker_directory import max_chunk_rows

log = logging.getLogger("bertq.client")

#: Result of a step: it has done something, or it must wait before it can continue.
DONE, WAITING = True, False


class JobAbandoned(Exception):
    """The job has no open requests any more, or the client is closed."""


class Writer:
    """The writer of a client's jobs, on the sender's thread."""

    def __init__(self, context: SessionContext) -> None:
        self._address = redis_url.redact(context.url)
        self._redis = context.redis
        self._client_id = context.client_id
        self._registry = context.registry
        self._directory = context.directory
        self._limits = context.limits
        self._window = Window(context.redis, context.registry, context.limits.max_pending_chunks)
        self._message_builder = MessageBuilder(context.client_id)
        self._retry = context.retry(context.registry.wait_until_closed)
        self._has_warned = False

    def write(self, job: Job) -> Iterator[bool]:
        """Write a job's record and send its chunks, one chunk in each step.

        Raises:
            JobAbandoned: the job has no open requests any more.
            QueueFull: too many chunks are waiting, and the client does not wait.
            BadInputType, BadInputValue: its sentences are invalid.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
        """
        yield from self._plan(job)
        yield from self._send(job)
        self._warn_without_worker(job)

    def cancel(self, job: Job) -> None:
        """Cancel a job in Redis, so that workers drop its chunks."""
        if not job.is_recorded:
            return
        try:
            jobs.cancel(self._redis, job.id)
        except RedisError:
            log.debug("job %s could not be cancelled; its record expires", job.id)

    def resend(self, job: Job, lost: dict[int, Sending]) -> Iterator[bool]:
        """Write a job's record and send some of its chunks again, under the same ids.

        Args:
            job: the job.
            lost: numbers of the chunks, with the sendings that are lost.

        Raises:
            JobAbandoned: the job has no open requests any more.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
        """
        assert job.assembly is not None
        for number, sending in lost.items():
            # Otherwise the chunk has been answered or sent again in the meantime.
            if job.pending.get(number) is sending and number in job.assembly.missing:
                self._write_record(job, number, [])
                yield DONE

    def _plan(self, job: Job) -> Iterator[bool]:
        """Split the sentences of a job into chunks."""
        workers = self._run(job, lambda: self._directory.serving(job.queue))
        deduplicator = Deduplicator()
        for part in inputs.checked_parts(job.texts, is_tokenized=job.encoding.is_tokenized):
            deduplicator.add(part)
            yield DONE
            self._check_not_abandoned(job)
        job.assembly = Assembly(deduplicator.plan_chunks(max_chunk_rows(workers)))

    def _send(self, job: Job) -> Iterator[bool]:
        """Write the record of a job and send its chunks."""
        assert job.assembly is not None
        yield from self._wait_for_queue(job)
        uncounted = [len(request.texts) for request in job.requests if not request.is_counted]
        self._write_record(job, 0, uncounted)
        self._registry.mark_recorded(job)
        for request in job.requests:
            request.is_counted = True
        for number in range(1, len(job.assembly.plan)):
            yield DONE
            while not self._may_send(job):
                yield WAITING
            message = self._message(job, number)
            length = self._run(job, partial(jobs.push, self._redis, job.queue, message))
            self._mark_sent(job, number, length)

    def _wait_for_queue(self, job: Job) -> Iterator[bool]:
        """Wait until the queue accepts the first chunk of a job."""
        if not self._limits.waits:
            length = self._run(job, lambda: self._window.read_length(job.queue))
            if length >= self._limits.max_pending_chunks:
                raise QueueFull(
                    f"{length} chunks wait on queue {job.queue} of {self._address}, at most "
                    f"{self._limits.max_pending_chunks} may: try again later, or let the client "
                    'wait (on_full="wait")'
                )
        while not self._run(job, lambda: self._window.queue_has_capacity(job.queue)):
            yield WAITING

    def _may_send(self, job: Job) -> bool:
        """Return whether another chunk of a job may be sent."""
        self._check_not_abandoned(job)
        workers = self._directory.known(job.queue)
        return self._window.client_has_capacity(job.queue, workers) and bool(
            self._run(job, lambda: self._window.queue_has_capacity(job.queue))
        )

    def _message(self, job: Job, number: int) -> str:
        assert job.assembly is not None
        texts = [job.texts[index] for index in job.assembly.plan[number].sentences]
        options = job.encoding.to_wire()
        return self._message_builder.build(keys.task_id(job.id, number), texts, job.queue, options)

    def _write_record(self, job: Job, number: int, uncounted: list[int]) -> None:
        """Write a job's record and send one of its chunks.

        Args:
            job: the job.
            number: number of the chunk.
            uncounted: sizes of the requests that the counters do not include yet.
        """
        assert job.assembly is not None
        chunks = len(job.assembly.plan)
        message = self._message(job, number)
        length = self._run(
            job,
            lambda: jobs.create(
                self._redis,
                job.id,
                client=self._client_id,
                queue=job.queue,
                rows=len(job.texts),
                chunks=chunks,
                requests=uncounted,
                message=message,
            ),
        )
        self._mark_sent(job, number, length)

    def _mark_sent(self, job: Job, number: int, queue_length: int) -> None:
        # The last epoch seen: if Redis has lost its data since then, the chunk is sent again.
        self._registry.mark_sent(job, number, self._directory.epoch)
        self._window.set_length(job.queue, queue_length)

    def _check_not_abandoned(self, job: Job) -> None:
        if self._registry.is_closed or not job.open_requests:
            raise JobAbandoned

    def _run(self, job: Job, command: Callable[[], Any]) -> Any:
        """Run a command of Redis, with retries; raises as ``Retry.call``, and JobAbandoned."""
        return self._retry.call(
            command, since=job.submitted_at, check=lambda: self._check_not_abandoned(job)
        )

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
            "no worker takes from queue %s of %s: waiting until one is started "
            "(celery -A bertq worker; BertClient(timeout=...) bounds the wait)",
            job.queue, self._address,
        )  # fmt: skip
