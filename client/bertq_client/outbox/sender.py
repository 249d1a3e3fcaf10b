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

#: Seconds between two checks whether another chunk may be sent.
_LOOK = 0.02


@dataclass(eq=False)
class Again:
    """Lost chunks of a job."""

    job: Job
    lost: dict[int, Sent]


class Sender:
    """The thread that takes requests from the callers, so that submitting does not block.

    Small requests with the same queue and encoding that wait at the same moment become one job:
    more arrive while one is being written. The sender never waits for further requests.
    """

    def __init__(
        self,
        url: str,
        redis: Redis,
        client_id: str,
        registry: Registry,
        directory: WorkerDirectory,
        limits: Limits,
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._directory = directory
        self._work: queue.SimpleQueue[Request | Again | Callable[[], object] | None]
        self._work = queue.SimpleQueue()
        self._closing = threading.Event()
        self._writer = Writer(url, redis, client_id, registry, directory, limits, self._closing)
        self._late = False  # ``close`` no longer waits for the thread
        self._left: list[Job] = []  # abandoned while closing
        self._farewell: Callable[[], None] = lambda: None
        self.thread = threads.start(self._run, "sender")

    def send(self, request: Request) -> None:
        """Send the chunks of a request, after all earlier work."""
        self._work.put(request)

    def send_again(self, job: Job, numbers: list[int]) -> None:
        """Send lost chunks of a job again."""
        lost = {number: sent for number in numbers if (sent := job.pending.get(number))}
        if lost:
            self._work.put(Again(job, lost))

    def cancel(self, request: Request) -> None:
        """Cancel a request; the workers are told once its job has no open requests."""

        def act() -> None:
            job, request.job = request.job, None
            if job is not None and not job.waiting:
                self._drop(job)

        self._work.put(act)

    def drop(self, job: Job) -> None:
        """Cancel a job in Redis, so that workers drop its chunks."""
        self._work.put(lambda: self._drop(job))

    def close(self, given_up: list[Request], farewell: Callable[[], None], timeout: float) -> None:
        """Cancel the given requests and end the thread, waiting for a bounded time.

        Args:
            given_up: the open requests.
            farewell: last call of the thread; it may use Redis.
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
        # Jobs take turns, one chunk each, so a job of a million sentences does not delay small
        # ones. No variable here may refer to a finished job, or its client could not be collected.
        running: deque[Iterator[bool]] = deque()
        waiting = 0  # consecutive jobs that could not continue
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
        """Start the queued work, waiting for some if no job is running; return True at the end."""
        small: dict[tuple[str, Encoding], list[Request]] = {}
        while not (running or small) or not self._work.empty():
            work = self._work.get()
            if work is None:
                return True  # queued requests are abandoned
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
            return list(share(requests, self._directory.known(name)))
        except Exception:
            log.exception("requests cannot share a chunk; each is sent alone")
            return [[request] for request in requests]

    def _send(self, requests: list[Request]) -> Iterator[bool]:
        requests = self._registry.active_requests(requests)
        if not requests:
            return
        job = Job(requests)
        del requests
        if self._registry.enroll(job):
            yield from self._guarded(job, self._writer.write(job))

    def _guarded(self, job: Job, steps: Iterator[bool]) -> Iterator[bool]:
        """Run the steps of a job; an error ends the job, but not the thread."""
        try:
            yield from steps
        except GivenUp:
            self._drop(job)
        except BertqError as error:
            self._fail(job, error)
        except Exception as error:
            # Otherwise this caller and all later ones would wait forever. The original message may
            # quote a sentence, so it is left out.
            failure = BertqError(f"the request could not be sent ({type(error).__name__})")
            failure.__cause__ = error
            self._fail(job, failure)

    def _fail(self, job: Job, error: Exception) -> None:
        self._registry.fail(job, error)
        self._drop(job)

    def _drop(self, job: Job) -> None:
        if self._closing.is_set():
            self._left.append(job)  # cancelled together at the end
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
            log.debug("the client's data in Redis will expire: %r", error)


def _guard(act: Callable[[], object]) -> None:
    # No error may end the sender's thread: all later callers would wait forever.
    try:
        act()
    except Exception:
        log.exception("the client could not complete a step and continues")
