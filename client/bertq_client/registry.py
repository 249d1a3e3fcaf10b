"""The unanswered requests of a client, and the jobs that carry them."""

import copy
import heapq
import itertools
import threading
import time
from collections import Counter

from bertq_client.job import Job, Sent
from bertq_client.request import Request

#: Deadlines of answered requests that may remain, in addition to one per open request.
_SPARE = 64


class Registry:
    """Requests by number, and jobs by id.

    The thread that takes a request out completes its future, so this happens exactly once.
    """

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}
        self._jobs: dict[str, Job] = {}
        self._deadlines: list[tuple[float, int]] = []  # a heap, with the requests' numbers
        #: by queue: chunks that are sent and not answered, and the ordinal of the last answered one
        self._pending: Counter[str] = Counter()
        self._passed: dict[str, int] = {}
        self._ordinals = itertools.count(1)
        self._closed = threading.Event()
        self._lock = threading.RLock()
        self._sent = threading.Condition(self._lock)
        self._sooner = threading.Condition(self._lock)

    # -- requests

    def add(self, request: Request) -> bool:
        """Add a request; return False if the registry is closed."""
        with self._lock:
            if self._closed.is_set():
                return False
            self._requests[request.number] = request
            if request.deadline is not None:
                heapq.heappush(self._deadlines, (request.deadline, request.number))
                if self._deadlines[0][1] == request.number:
                    self._sooner.notify_all()
            return True

    def numbers(self) -> list[int]:
        """Return the numbers of the requests that have not been taken out."""
        with self._lock:
            return sorted(self._requests)

    def take(self, number: int) -> Request | None:
        """Take a request out, or return None if another thread has done so."""
        with self._lock:
            request = self._requests.pop(number, None)
            if request is not None and (job := request.job) is not None:
                job.waiting.pop(number, None)
                if not job.waiting:
                    self._forget(job)
            if len(self._deadlines) > 2 * len(self._requests) + _SPARE:
                # Most entries belong to requests that were answered long before their deadline.
                self._deadlines = [due for due in self._deadlines if due[1] in self._requests]
                heapq.heapify(self._deadlines)
            return request

    def take_overdue(self) -> Request | None:
        """Wait until a request is overdue and take it out; return None once closed."""
        with self._lock:
            while not self._closed.is_set():
                if not self._deadlines:
                    self._sooner.wait()
                elif (left := self._deadlines[0][0] - time.monotonic()) > 0:
                    self._sooner.wait(left)
                elif request := self.take(heapq.heappop(self._deadlines)[1]):
                    return request
            return None

    def active_requests(self, requests: list[Request]) -> list[Request]:
        """Return those of ``requests`` that have not been taken out."""
        with self._lock:
            return [request for request in requests if request.number in self._requests]

    # -- jobs

    def enroll(self, job: Job) -> bool:
        """Add a job for those of its requests that are still open; return False if none is."""
        with self._lock:
            for request in job.requests:
                if request.number in self._requests:
                    request.job = job
                    job.waiting[request.number] = request
            if job.waiting:
                self._jobs[job.id] = job
            return bool(job.waiting)

    def mark_recorded(self, job: Job) -> None:
        """Note that the record of a job is in Redis: from now on its answer may arrive."""
        with self._lock:
            job.recorded = True
            self._sent.notify_all()

    def mark_sent(self, job: Job, number: int, epoch: str | None) -> None:
        """Note that a chunk was sent, possibly again."""
        with self._lock:
            # The answer may have arrived already.
            if job.id not in self._jobs or (job.assembly and number not in job.assembly.missing):
                return
            before = job.pending.get(number)
            times = 1 if before is None else before.times + 1
            job.pending[number] = Sent(next(self._ordinals), epoch, times)
            self._pending[job.queue] += before is None

    def mark_answered(self, job: Job, number: int) -> None:
        """Note that the rows of a chunk have arrived."""
        with self._lock:
            sent = job.pending.pop(number, None)
            if sent is not None:
                self._pending[job.queue] -= 1
                self._passed[job.queue] = max(sent.ordinal, self.passed(job.queue))

    def pending(self, queue: str) -> int:
        """Return the number of chunks that were sent to a queue and not answered."""
        return self._pending[queue]

    def passed(self, queue: str) -> int:
        """Return the ordinal of the last answered chunk of a queue."""
        return self._passed.get(queue, 0)

    def _forget(self, job: Job) -> None:
        if self._jobs.pop(job.id, None) is not None:
            self._pending[job.queue] -= len(job.pending)
            job.pending.clear()

    def get(self, job_id: str) -> Job | None:
        """Return a job that has open requests, or None."""
        with self._lock:
            return self._jobs.get(job_id)

    def disband(self, job: Job) -> list[Request]:
        """Remove a job; return its open requests."""
        with self._lock:
            self._forget(job)
            left = list(job.waiting.values())
            job.waiting.clear()
            for request in left:
                request.job = None
            return left

    def fail(self, job: Job, error: Exception) -> None:
        """Remove a job and fail its open requests."""
        for request in self.disband(job):
            if self.take(request.number) is not None:
                # Each request needs its own copy: raising an error changes it.
                request.fail(copy.copy(error) if job.shared else error)

    def jobs(self) -> list[Job]:
        """Return the jobs that are not answered yet."""
        with self._lock:
            return list(self._jobs.values())

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until a job is in Redis, the registry is closed, or the time is over.

        Returns:
            Whether a job is in Redis.
        """
        with self._lock:
            self._sent.wait_for(lambda: self._closed.is_set() or self._under_way, seconds)
            return not self._closed.is_set() and self._under_way

    @property
    def _under_way(self) -> bool:
        return any(job.recorded for job in self._jobs.values())

    # -- the end

    @property
    def closed(self) -> bool:
        """Whether the registry accepts no more requests."""
        return self._closed.is_set()

    def pause(self, seconds: float) -> None:
        """Wait for some time, or until the registry is closed."""
        self._closed.wait(seconds)

    def close(self) -> list[Request]:
        """Close the registry to new requests; return the open ones."""
        with self._lock:
            self._closed.set()
            requests = list(self._requests.values())
            self._requests.clear()
            self._jobs.clear()
            self._sent.notify_all()
            self._sooner.notify_all()
            return requests
