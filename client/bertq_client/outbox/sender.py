"""The thread that writes a client's jobs to Redis: records, chunks, cancellations."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redis import Redis

from bertq.errors import BertqError
from bertq.protocol.encoding import Encoding
from bertq.state import jobs
from bertq_client import threads
from bertq_client.job import Job, Sent
from bertq_client.outbox.coalescing import share
from bertq_client.outbox.window import Limits
from bertq_client.outbox.writer import WAITING, GivenUp, Writer
from bertq_client.registry import Registry
from bertq_client.request import Request
from bertq_client.worker_directory import WorkerDirectory

log = logging.getLogger("bertq.client")

_END = object()

#: Seconds between two looks whether there is room for more.
_LOOK = 0.02


@dataclass(eq=False)
class Again:
    """Chunks of a job that are lost."""

    job: Job
    lost: dict[int, Sent]


class Sender:
    """Takes requests from the callers, so that submitting costs them nothing.

    Small requests of a kind that wait at the same moment go out as one job: while one is written,
    others come in. It never waits for more to come.
    """

    def __init__(
        self,
        url: str,
        redis: Redis,
        client_id: str,
        registry: Registry,
        fleet: WorkerDirectory,
        limits: Limits,
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._fleet = fleet
        self._work: queue.SimpleQueue[Request | Again | Callable[[], object] | None]
        self._work = queue.SimpleQueue()
        self._closing = threading.Event()
        self._writer = Writer(url, redis, client_id, registry, fleet, limits, self._closing)
        self._late = False  # nobody waits for the thread any more
        self._left: list[Job] = []  # given up while closing
        self._farewell: Callable[[], None] = lambda: None
        self.thread = threads.start(self._run, "sender")

    def send(self, request: Request) -> None:
        """Send a request's chunks, after what was asked for before."""
        self._work.put(request)

    def send_again(self, job: Job, numbers: list[int]) -> None:
        """Send chunks of a job that are lost once more."""
        lost = {number: sent for number in numbers if (sent := job.pending.get(number))}
        if lost:
            self._work.put(Again(job, lost))

    def cancel(self, request: Request) -> None:
        """Note that a request was given up; the workers are told if its job is of no more use."""

        def act() -> None:
            job, request.job = request.job, None
            if job is not None and not job.waiting:
                self._drop(job)

        self._work.put(act)

    def drop(self, job: Job) -> None:
        """Tell the workers that a job's chunks are not wanted."""
        self._work.put(lambda: self._drop(job))

    def close(self, given_up: list[Request], farewell: Callable[[], None], timeout: float) -> None:
        """Tell the workers what is given up and end the thread, waiting for a bounded time.

        Args:
            given_up: the requests that were under way.
            farewell: the last thing that the thread does; it may talk to Redis.
            timeout: seconds to wait; zero on the client's own threads.
        """
        self._left += [job for request in given_up if (job := request.job) is not None]
        self._farewell = farewell
        self._closing.set()
        self._work.put(None)
        if timeout:
            self.thread.join(timeout)
            self._late = self.thread.is_alive()

    def _run(self) -> None:
        # Jobs are sent a chunk of each in turn: one of a million sentences keeps no small one
        # waiting. What is finished is held by no name here, or its client could not be collected.
        running: deque[Iterator[bool]] = deque()
        waiting = 0  # of those, one after the other, that could not go on
        last = False
        while running or not last:
            if waiting >= len(running) > 0:
                self._closing.wait(_LOOK)
                waiting = 0
            if not last:
                last = self._take_up(running)
            step = next(running[0], _END) if running else _END
            waiting = waiting + 1 if step is WAITING else 0
            if running and step is _END:
                running.popleft()
            else:
                running.rotate(-1)
        self._leave()

    def _take_up(self, running: deque[Iterator[bool]]) -> bool:
        """Begin what waits, which is waited for if nothing is under way; return True at the end."""
        small: dict[tuple[str, Encoding], list[Request]] = {}
        while not (running or small) or not self._work.empty():
            work = self._work.get()
            if work is None:
                return True  # the requests that wait are given up
            if isinstance(work, Again):
                running.append(
                    self._guarded(work.job, self._writer.write_again(work.job, work.lost))
                )
            elif not isinstance(work, Request):
                _guard(work)
            elif work.small and not work.alone:
                small.setdefault((work.queue, work.encoding), []).append(work)
            else:
                running.append(self._send([work]))
            del work
        for (name, _), requests in small.items():
            running.extend(map(self._send, self._groups(name, requests)))
        return False

    def _groups(self, name: str, requests: list[Request]) -> list[list[Request]]:
        try:
            return list(share(requests, self._fleet.known(name)))
        except Exception:
            log.exception("requests cannot share a chunk; each is sent alone")
            return [[request] for request in requests]

    def _send(self, requests: list[Request]) -> Iterator[bool]:
        requests = self._registry.still_wanted(requests)
        if not requests:
            return
        job = Job(requests)
        del requests
        if self._registry.enroll(job):
            yield from self._guarded(job, self._writer.write(job))

    def _guarded(self, job: Job, steps: Iterator[bool]) -> Iterator[bool]:
        """Take steps for a job; what goes wrong is the job's end, never that of the thread."""
        try:
            yield from steps
        except GivenUp:
            self._drop(job)
        except BertqError as error:
            self._fail(job, error)
        except Exception as error:
            # The caller, and those after it, would wait for ever. The error's own message may
            # quote a sentence.
            failure = BertqError(f"the request could not be sent ({type(error).__name__})")
            failure.__cause__ = error
            self._fail(job, failure)

    def _fail(self, job: Job, error: Exception) -> None:
        self._registry.fail(job, error)
        self._drop(job)

    def _drop(self, job: Job) -> None:
        if self._closing.is_set():
            self._left.append(job)  # they are told of all at once
        else:
            self._writer.cancel(job)

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


def _guard(act: Callable[[], object]) -> None:
    # Nothing may end the sender's thread: the callers after this one would wait for ever.
    try:
        act()
    except Exception:
        log.exception("the client could not do something; it goes on with the next")
