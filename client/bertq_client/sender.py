"""The thread that writes a client's jobs to Redis: records, chunks, cancellations."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from redis import Redis, RedisError

from bertq import jobs, keys, redis_url
from bertq.connection import PATIENCE, explain
from bertq.errors import BertqError
from bertq_client import chunks, inputs, threads
from bertq_client.fleet import Fleet, chunk_rows
from bertq_client.publisher import Publisher
from bertq_client.registry import Job, Registry

log = logging.getLogger("bertq.client")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

#: Something to do in steps.
Work = Callable[[], Iterator[None]]
_DONE = object()


class Sender:
    """Takes jobs from the callers, so that submitting costs them nothing."""

    def __init__(
        self, url: str, redis: Redis, client_id: str, registry: Registry, fleet: Fleet
    ) -> None:
        self._url = url
        self._redis = redis
        self._client_id = client_id
        self._registry = registry
        self._fleet = fleet
        self._publisher = Publisher(url, client_id)
        self._reached = 0.0  # when Redis last did what it was asked, on the monotonic clock
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._loading = False
        self._late = False  # nobody waits for the thread any more
        self._left: list[Job] = []  # given up while closing
        self._farewell: Callable[[], None] = lambda: None
        self._warned = False
        self.thread = threads.start(self._run, "sender")

    def send(self, job: Job) -> None:
        """Send a job's chunks, after what was asked for before."""
        self._work.put(lambda: self._send(job))

    def cancel(self, job: Job) -> None:
        """Tell the workers that a job's chunks are not wanted."""

        def act() -> Iterator[None]:
            self._cancel(job)
            return iter(())

        self._work.put(act)

    def close(self, given_up: list[Job], farewell: Callable[[], None], timeout: float) -> None:
        """Tell the workers what is given up and end the thread, waiting for a bounded time.

        Args:
            given_up: the jobs that were under way.
            farewell: the last thing that the thread does; it may talk to Redis.
            timeout: seconds to wait; zero on the client's own threads.
        """
        self._left += given_up
        self._farewell = farewell
        self._closing.set()
        self._work.put(None)
        if self._loading:
            # Before Celery is there, nothing was sent that anybody would have to be told of.
            self._late = True
        elif timeout:
            self.thread.join(timeout)
            self._late = self.thread.is_alive()

    def _run(self) -> None:
        # Requests are sent a chunk of each in turn: one of a million sentences keeps no small one
        # waiting. What is finished is held by no name here, or its client could not be collected.
        running: deque[Iterator[None]] = deque()
        last = False
        with closing(self._publisher):
            while running or not last:
                while not last and not (running and self._work.empty()):
                    work = self._work.get()
                    last = work is None
                    if work is not None:
                        running.append(_guarded(work))
                    del work
                if running and next(running[0], _DONE) is _DONE:
                    running.popleft()
                else:
                    running.rotate(-1)
        self._leave()

    def _send(self, job: Job) -> Iterator[None]:
        try:
            if not self._publisher.loaded:
                self._load(job)
            inputs.check_rest(job.texts)
            self._record(job)
            assert job.assembly is not None
            for number, indices in enumerate(job.assembly.plan):
                task_id = keys.task_id(job.id, number)
                texts = [job.texts[index] for index in indices]
                self._persist(job, partial(self._publisher.publish, task_id, texts, job.queue))
                yield
            self._warn_if_alone(job)
        except _GivenUp:
            self._cancel(job)
        except BertqError as error:
            self._fail(job, error)
        except Exception as error:
            # Nothing may end this thread: the caller, and those after it, would wait for ever.
            # The error's own message may quote a sentence.
            failure = BertqError(f"the request could not be sent ({type(error).__name__})")
            failure.__cause__ = error
            self._fail(job, failure)

    def _load(self, job: Job) -> None:
        self._loading = True  # first: close() sets its mark before it looks at this one
        try:
            self._check_wanted(job)
            self._publisher.load()
        finally:
            self._loading = False

    def _check_wanted(self, job: Job) -> None:
        if self._closing.is_set() or job.future.done():
            raise _GivenUp

    def _record(self, job: Job) -> None:
        workers = self._persist(job, lambda: self._fleet.serving(job.queue))
        plan = chunks.split([len(text) for text in job.texts], chunk_rows(workers))
        self._persist(
            job,
            lambda: jobs.create(
                self._redis,
                job.id,
                client=self._client_id,
                queue=job.queue,
                rows=len(job.texts),
                chunks=len(plan),
            ),
        )
        job.assembly = chunks.Assembly(plan)
        job.recorded = True

    def _persist(self, job: Job, act: Callable[[], Any]) -> Any:
        """Do something on Redis, again and again while it is away or full.

        Raises:
            _GivenUp: nobody waits for the job any more.
            RedisUnavailable, RedisFull: it has not worked for ``PATIENCE`` seconds, or never will.
        """
        pause = _FIRST_PAUSE
        while True:
            self._check_wanted(job)
            try:
                done = act()
            except self._publisher.errors as error:
                self._publisher.close()
                trouble = explain(error, self._url)
                # Not from the first try: those who waited behind another have waited as long.
                waited = time.monotonic() - max(job.submitted, self._reached)
                if trouble.final or waited + pause > PATIENCE:
                    raise trouble.error from None
            else:
                self._reached = time.monotonic()
                return done
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _warn_if_alone(self, job: Job) -> None:
        if self._warned or job.timeout is not None:
            return
        try:
            if self._fleet.serving(job.queue):
                return
        except RedisError:
            return  # the chunks are sent; the gatherer says that Redis is away
        self._warned = True
        log.warning(
            "no worker takes from queue %s of %s: waiting until one is started "
            "(celery -A bertq worker; BertClient(timeout=...) bounds the wait)",
            job.queue, redis_url.redact(self._url),
        )  # fmt: skip

    def _cancel(self, job: Job) -> None:
        if self._closing.is_set():
            self._left.append(job)  # they are told of all at once
            return
        if not job.recorded:
            return
        try:
            jobs.cancel(self._redis, job.id)
        except RedisError:
            log.debug("job %s could not be cancelled; its record expires", job.id)

    def _fail(self, job: Job, error: BertqError) -> None:
        if self._registry.pop(job.id) is not None:
            job.fail(error)
        self._cancel(job)

    def _leave(self) -> None:
        if self._late:
            return
        try:
            recorded = {job.id for job in self._left if job.recorded}
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in recorded:
                    jobs.discard(pipe, job_id)
                pipe.execute()
            self._farewell()
        except Exception as error:
            log.debug("what the client has in Redis is left to expire: %r", error)


class _GivenUp(Exception):
    """The job is not wanted any more."""


def _guarded(work: Work) -> Iterator[None]:
    # Nothing may end the sender's thread: the callers after this one would wait for ever.
    try:
        yield from work()
    except Exception:
        log.exception("the client could not do something; it goes on with the next")
