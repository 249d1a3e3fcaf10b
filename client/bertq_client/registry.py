"""What a client has not answered yet: the requests of its callers, and the jobs that carry them."""

import copy
import heapq
import itertools
import threading
import time
from collections import Counter

from bertq_client.job import Job, Sent
from bertq_client.request import Request

#: Deadlines of answered requests that are kept at most, beside as many as there are requests.
_SPARE = 64


class Registry:
    """Requests, and jobs by id. Who takes a request out completes its future: it happens once."""

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}
        self._jobs: dict[str, Job] = {}
        self._deadlines: list[tuple[float, int]] = []  # a heap, with the requests' numbers
        #: by queue: chunks that are sent and not answered, and the last one that was answered
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
        """Return the numbers of the requests that nobody has taken out."""
        with self._lock:
            return sorted(self._requests)

    def take(self, number: int) -> Request | None:
        """Take a request out, or return None if somebody else was first."""
        with self._lock:
            request = self._requests.pop(number, None)
            if request is not None and (job := request.job) is not None:
                job.waiting.pop(number, None)
                if not job.waiting:
                    self._forget(job)
            if len(self._deadlines) > 2 * len(self._requests) + _SPARE:
                # Most belong to requests that were answered long before they are due.
                self._deadlines = [due for due in self._deadlines if due[1] in self._requests]
                heapq.heapify(self._deadlines)
            return request

    def take_overdue(self) -> Request | None:
        """Block until a request is overdue and take it out; None once the registry is closed."""
        with self._lock:
            while not self._closed.is_set():
                if not self._deadlines:
                    self._sooner.wait()
                elif (left := self._deadlines[0][0] - time.monotonic()) > 0:
                    self._sooner.wait(left)
                elif request := self.take(heapq.heappop(self._deadlines)[1]):
                    return request
            return None

    def still_wanted(self, requests: list[Request]) -> list[Request]:
        """Return those of some requests that nobody has taken out."""
        with self._lock:
            return [request for request in requests if request.number in self._requests]

    # -- jobs

    def enroll(self, job: Job) -> bool:
        """Add a job, for its requests that nobody has taken out; False if there is none."""
        with self._lock:
            for request in job.requests:
                if request.number in self._requests:
                    request.job = job
                    job.waiting[request.number] = request
            if job.waiting:
                self._jobs[job.id] = job
            return bool(job.waiting)

    def mark_recorded(self, job: Job) -> None:
        """Note that a job is in Redis: from now on there may be an answer."""
        with self._lock:
            job.recorded = True
            self._sent.notify_all()

    def mark_sent(self, job: Job, number: int, epoch: str | None) -> None:
        """Note that a chunk was sent, perhaps not for the first time."""
        with self._lock:
            # The answer may have been faster.
            if job.id not in self._jobs or (job.assembly and number not in job.assembly.missing):
                return
            before = job.pending.get(number)
            times = 1 if before is None else before.times + 1
            job.pending[number] = Sent(next(self._ordinals), epoch, times)
            self._pending[job.queue] += before is None

    def mark_answered(self, job: Job, number: int) -> None:
        """Note that the rows of a chunk are in."""
        with self._lock:
            sent = job.pending.pop(number, None)
            if sent is not None:
                self._pending[job.queue] -= 1
                self._passed[job.queue] = max(sent.ordinal, self.passed(job.queue))

    def pending(self, queue: str) -> int:
        """Return how many chunks are sent to a queue and not answered."""
        return self._pending[queue]

    def passed(self, queue: str) -> int:
        """Return the ordinal of the last chunk for a queue that was answered."""
        return self._passed.get(queue, 0)

    def _forget(self, job: Job) -> None:
        if self._jobs.pop(job.id, None) is not None:
            self._pending[job.queue] -= len(job.pending)
            job.pending.clear()

    def get(self, job_id: str) -> Job | None:
        """Return a job that somebody waits for."""
        with self._lock:
            return self._jobs.get(job_id)

    def disband(self, job: Job) -> list[Request]:
        """Remove a job; return the requests of it that are still to be answered."""
        with self._lock:
            self._forget(job)
            left = list(job.waiting.values())
            job.waiting.clear()
            for request in left:
                request.job = None
            return left

    def fail(self, job: Job, error: Exception) -> None:
        """Remove a job and fail what is left of its requests."""
        for request in self.disband(job):
            if self.take(request.number) is not None:
                # Each its own: whoever raises an error writes into it.
                request.fail(copy.copy(error) if job.shared else error)

    def jobs(self) -> list[Job]:
        """Return the jobs that are not answered yet."""
        with self._lock:
            return list(self._jobs.values())

    def wait(self, seconds: float | None = None) -> bool:
        """Block until a job is in Redis, or the registry closed, or for some time.

        Returns:
            Whether there is such a job.
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
        """Whether it takes no more requests."""
        return self._closed.is_set()

    def pause(self, seconds: float) -> None:
        """Block for some time, or until the registry is closed."""
        self._closed.wait(seconds)

    def close(self) -> list[Request]:
        """Take no more requests; return those that were under way."""
        with self._lock:
            self._closed.set()
            requests = list(self._requests.values())
            self._requests.clear()
            self._jobs.clear()
            self._sent.notify_all()
            self._sooner.notify_all()
            return requests
