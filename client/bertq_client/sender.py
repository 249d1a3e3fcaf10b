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
from redis.exceptions import AuthenticationError, OutOfMemoryError, ReadOnlyError, ResponseError

from bertq import jobs, keys, redis_url
from bertq.errors import BertqError, RedisFull, RedisUnavailable
from bertq_client import chunks, inputs, threads
from bertq_client.fleet import Fleet, chunk_rows
from bertq_client.publisher import Publisher
from bertq_client.registry import Job, Registry

log = logging.getLogger("bertq.client")

#: Seconds for which an unreachable or full Redis is tried again before the request fails.
PATIENCE = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

#: Something to do in steps.
Work = Callable[[Publisher], Iterator[None]]
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
        self._reached = 0.0  # when Redis last did what it was asked, on the monotonic clock
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._warned = False
        self._thread = threads.start(self._run, "sender")

    def send(self, job: Job) -> None:
        """Send a job's chunks, after what was asked for before."""
        self._work.put(lambda publisher: self._send(publisher, job))

    def cancel(self, job: Job) -> None:
        """Tell the workers that a job's chunks are not wanted."""

        def act(_: Publisher) -> Iterator[None]:
            self._cancel(job)
            return iter(())

        self._work.put(act)

    def close(self, timeout: float) -> None:
        """Do what is left of cancellations and end the thread, waiting for a bounded time."""
        self._closing.set()
        self._work.put(None)
        threads.join(self._thread, timeout)

    def _run(self) -> None:
        # Requests are sent a chunk of each in turn: one of a million sentences keeps no small one
        # waiting. What is finished is held by no name here, or its client could not be collected.
        running: deque[Iterator[None]] = deque()
        last = False
        with closing(Publisher(self._url, self._client_id)) as publisher:
            while running or not last:
                while not last and not (running and self._work.empty()):
                    work = self._work.get()
                    last = work is None
                    if work is not None:
                        running.append(work(publisher))
                    del work
                if running and next(running[0], _DONE) is _DONE:
                    running.popleft()
                else:
                    running.rotate(-1)

    def _send(self, publisher: Publisher, job: Job) -> Iterator[None]:
        try:
            inputs.check_rest(job.texts)
            self._record(job)
            assert job.assembly is not None
            for number, indices in enumerate(job.assembly.plan):
                task_id = keys.task_id(job.id, number)
                texts = [job.texts[index] for index in indices]
                publish = partial(publisher.publish, task_id, texts, job.queue)
                self._persist(job, publish, publisher)
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

    def _record(self, job: Job) -> None:
        workers = self._persist(job, lambda: self._fleet.serving(job.queue))
        plan = chunks.split([len(text) for text in job.texts], chunk_rows(workers))
        self._persist(
            job,
            lambda: jobs.create(
                self._redis, job.id, client=self._client_id, rows=len(job.texts), chunks=len(plan)
            ),
        )
        job.assembly = chunks.Assembly(plan)
        job.recorded = True

    def _persist(self, job: Job, act: Callable[[], Any], publisher: Publisher | None = None) -> Any:
        """Do something on Redis, again and again while it is away or full.

        Raises:
            _GivenUp: nobody waits for the job any more.
            RedisUnavailable, RedisFull: it has not worked for ``PATIENCE`` seconds, or never will.
        """
        # kombu's errors are not the client's to import before it needs them.
        from kombu.exceptions import OperationalError

        pause = _FIRST_PAUSE
        while True:
            if self._closing.is_set() or job.future.done():
                raise _GivenUp
            try:
                done = act()
            except (RedisError, OperationalError, OSError) as error:
                if publisher is not None:
                    publisher.close()
                failure = self._explain(_redis_error(error))
                # Not from the first try: those who waited behind another have waited as long.
                waited = time.monotonic() - max(job.submitted, self._reached)
                if failure.final or waited + pause > PATIENCE:
                    raise failure.error from None
            else:
                self._reached = time.monotonic()
                return done
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _explain(self, error: BaseException) -> "_Failure":
        where = redis_url.redact(self._url)
        if isinstance(error, OutOfMemoryError):
            full = f"Redis at {where} has reached its memory limit (maxmemory)"
            return _Failure(RedisFull(full), final=False)
        if isinstance(error, AuthenticationError):
            refused = f"Redis at {where} refuses the login: check user and password in the URL"
            return _Failure(RedisUnavailable(refused), final=True)
        if isinstance(error, ResponseError) and not isinstance(error, ReadOnlyError):
            return _Failure(RedisUnavailable(f"Redis at {where} refuses: {error}"), final=True)
        away = f"Redis at {where} cannot be reached: {str(error) or type(error).__name__}"
        return _Failure(RedisUnavailable(away), final=False)

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


class _GivenUp(Exception):
    """The job is not wanted any more."""


class _Failure:
    """An error for the caller, and whether it is of no use to try again."""

    def __init__(self, error: BertqError, final: bool) -> None:
        self.error = error
        self.final = final


def _redis_error(error: BaseException) -> BaseException:
    # kombu hands redis-py's errors on as the cause of its own.
    if not isinstance(error, RedisError) and isinstance(error.__cause__, RedisError):
        return error.__cause__
    return error
