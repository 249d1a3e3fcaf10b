"""Writes a job to Redis: its record and its chunks; also cancels it."""

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from redis import Redis, RedisError

from bertq.errors import QueueFull
from bertq.protocol import keys
from bertq.redis import redis_url
from bertq.state import jobs
from bertq_client import inputs
from bertq_client.inbox.assembly import Assembly, Deduplicator
from bertq_client.job import Job, Sent
from bertq_client.outbox.message import Envelope
from bertq_client.outbox.window import Limits, Window
from bertq_client.registry import Registry
from bertq_client.retry import Retry
from bertq_client.worker_directory import WorkerDirectory, chunk_rows

log = logging.getLogger("bertq.client")

#: Result of a step: it has done something, or it must wait before it can continue.
DONE, WAITING = True, False


class GivenUp(Exception):
    """The job has no open requests any more."""


class Writer:
    """The writer of a client's jobs, on the sender's thread.

    Args:
        limits: limit on waiting chunks.
        closing: set when the client is being closed, which abandons all jobs.
    """

    def __init__(
        self,
        url: str,
        redis: Redis,
        client_id: str,
        registry: Registry,
        directory: WorkerDirectory,
        limits: Limits,
        closing: threading.Event,
    ) -> None:
        self._url = url
        self._redis = redis
        self._client_id = client_id
        self._registry = registry
        self._directory = directory
        self._limits = limits
        self._window = Window(redis, registry, limits.max_pending_chunks)
        self._closing = closing
        self._envelope = Envelope(client_id)
        self._retry = Retry(url, directory, closing.wait)
        self._warned = False

    def write(self, job: Job) -> Iterator[bool]:
        """Write a job's record and send its chunks, one chunk in each step.

        Raises:
            GivenUp: the job has no open requests any more.
            QueueFull: too many chunks are waiting, and the client does not wait.
            BadInputType, BadInputValue: its sentences are invalid.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
        """
        yield from self._plan(job)
        yield from self._send(job)
        self._warn_if_alone(job)

    def cancel(self, job: Job) -> None:
        """Cancel a job in Redis, so that workers drop its chunks."""
        if not job.recorded:
            return
        try:
            jobs.cancel(self._redis, job.id)
        except RedisError:
            log.debug("job %s could not be cancelled; its record expires", job.id)

    def write_again(self, job: Job, lost: dict[int, Sent]) -> Iterator[bool]:
        """Write a job's record and send some of its chunks again, under the same ids.

        Raises:
            GivenUp: the job has no open requests any more.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
        """
        assert job.assembly is not None
        for number, sent in lost.items():
            # Otherwise the chunk has been answered or sent again in the meantime.
            if job.pending.get(number) is sent and number in job.assembly.missing:
                self._record(job, number, [])
                yield DONE

    def _plan(self, job: Job) -> Iterator[bool]:
        workers = self._persist(job, lambda: self._directory.serving(job.queue))
        distinct = Deduplicator()
        for part in inputs.parts(job.texts, is_tokenized=job.encoding.is_tokenized):
            distinct.add(part)
            yield DONE
            self._check_wanted(job)
        job.assembly = Assembly(distinct.deal(chunk_rows(workers)))

    def _send(self, job: Job) -> Iterator[bool]:
        assert job.assembly is not None
        yield from self._wait_for_queue(job)
        news = [len(request.texts) for request in job.requests if not request.counted]
        self._record(job, 0, news)
        self._registry.mark_recorded(job)
        for request in job.requests:
            request.counted = True
        for number in range(1, len(job.assembly.plan)):
            yield DONE
            while not self._within(job):
                yield WAITING
            message = self._message(job, number)
            length = self._persist(job, partial(jobs.push, self._redis, job.queue, message))
            self._note(job, number, length)

    def _wait_for_queue(self, job: Job) -> Iterator[bool]:
        """Wait until the queue accepts the first chunk of a job."""
        if not self._limits.wait:
            length = self._persist(job, lambda: self._window.look(job.queue))
            if length >= self._limits.max_pending_chunks:
                raise QueueFull(
                    f"{length} chunks wait on queue {job.queue} of {redis_url.redact(self._url)}, "
                    f"at most {self._limits.max_pending_chunks} may: try again later, or let the "
                    'client wait (on_full="wait")'
                )
        while not self._persist(job, lambda: self._window.room(job.queue)):
            yield WAITING

    def _within(self, job: Job) -> bool:
        """Return whether another chunk of a job may be sent."""
        return self._window.within(job.queue, self._directory.known(job.queue)) and bool(
            self._persist(job, lambda: self._window.room(job.queue))
        )

    def _message(self, job: Job, number: int) -> str:
        assert job.assembly is not None
        texts = [job.texts[index] for index in job.assembly.plan[number].sentences]
        options = job.encoding.to_wire()
        return self._envelope.seal(keys.task_id(job.id, number), texts, job.queue, options)

    def _record(self, job: Job, number: int, news: list[int]) -> None:
        """Write a job's record and send one of its chunks."""
        assert job.assembly is not None
        chunks = len(job.assembly.plan)
        message = self._message(job, number)
        length = self._persist(
            job,
            lambda: jobs.create(
                self._redis,
                job.id,
                client=self._client_id,
                queue=job.queue,
                rows=len(job.texts),
                chunks=chunks,
                requests=news,
                message=message,
            ),
        )
        self._note(job, number, length)

    def _note(self, job: Job, number: int, length: int) -> None:
        # The last epoch seen: if Redis has lost its data since then, the chunk is sent again.
        self._registry.mark_sent(job, number, self._directory.epoch)
        self._window.note(job.queue, length)

    def _check_wanted(self, job: Job) -> None:
        if self._closing.is_set() or not job.waiting:
            raise GivenUp

    def _persist(self, job: Job, act: Callable[[], Any]) -> Any:
        """Call ``act`` with retries; raises as ``Retry.persist``, and GivenUp."""
        return self._retry.persist(act, job.submitted, lambda: self._check_wanted(job))

    def _warn_if_alone(self, job: Job) -> None:
        if self._warned or all(request.timeout is not None for request in job.requests):
            return
        try:
            if self._directory.serving(job.queue):
                return
        except RedisError:
            return  # the chunks are sent; the gatherer logs that Redis is unreachable
        self._warned = True
        log.warning(
            "no worker takes from queue %s of %s: waiting until one is started "
            "(celery -A bertq worker; BertClient(timeout=...) bounds the wait)",
            job.queue, redis_url.redact(self._url),
        )  # fmt: skip
