"""The unanswered requests of a client, and the jobs that carry them."""

import copy
import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable

from bertq_client.job import Job, Sending
from bertq_client.request import Request

#: Deadlines of answered requests that may remain, in addition to one per open request.
_MAX_SPARE_DEADLINES = 64


class Registry:
    """Requests by number, and jobs by id.

    The thread that takes a request out completes its future, so this happens exactly once.
    """

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}
        self._jobs: dict[str, Job] = {}
        self._deadlines: list[tuple[float, int]] = []  # a heap, with the requests' numbers
        #: by queue: the number of chunks that are sent and not answered
        self._pending_chunks: Counter[str] = Counter()
        #: by queue: the highest position of an answered chunk
        self._answered_positions: dict[str, int] = {}
        self._positions = itertools.count(1)
        self._closed = threading.Event()
        self._lock = threading.RLock()
        self._gatherer_has_work = threading.Condition(self._lock)
        self._deadline_changed = threading.Condition(self._lock)

    # -- requests

    def add_request(self, request: Request) -> bool:
        """Add a request; return False if the registry is closed."""
        with self._lock:
            if self._closed.is_set():
                return False
            self._requests[request.number] = request
            if request.deadline is not None:
                heapq.heappush(self._deadlines, (request.deadline, request.number))
                if self._deadlines[0][1] == request.number:
                    self._deadline_changed.notify_all()
            return True

    def has_only(self, request: Request) -> bool:
        """Return whether a request is open, and no other one is."""
        with self._lock:
            return len(self._requests) == 1 and request.number in self._requests

    def numbers(self) -> list[int]:
        """Return the numbers of the requests that have not been taken out."""
        with self._lock:
            return sorted(self._requests)

    def take_request(self, number: int) -> Request | None:
        """Take a request out, or return None if another thread has done so."""
        with self._lock:
            request = self._requests.pop(number, None)
            if request is not None and (job := request.job) is not None:
                job.open_requests.pop(number, None)
                if not job.open_requests:
                    self._drop_job(job)
            if len(self._deadlines) > 2 * len(self._requests) + _MAX_SPARE_DEADLINES:
                # Most entries belong to requests that were answered long before their deadline.
                self._deadlines = [item for item in self._deadlines if item[1] in self._requests]
                heapq.heapify(self._deadlines)
            return request

    def take_overdue(self) -> Request | None:
        """Wait until a request is overdue and take it out; return None once closed."""
        with self._lock:
            while not self._closed.is_set():
                if not self._deadlines:
                    self._deadline_changed.wait()
                elif (seconds := self._deadlines[0][0] - time.monotonic()) > 0:
                    self._deadline_changed.wait(seconds)
                elif request := self.take_request(heapq.heappop(self._deadlines)[1]):
                    return request
            return None

    def filter_open(self, requests: list[Request]) -> list[Request]:
        """Return those of ``requests`` that have not been taken out."""
        with self._lock:
            return [request for request in requests if request.number in self._requests]

    # -- jobs

    def add_job(self, job: Job) -> bool:
        """Add a job for those of its requests that are still open; return False if none is."""
        with self._lock:
            for request in job.requests:
                if request.number in self._requests:
                    request.job = job
                    job.open_requests[request.number] = request
            if job.open_requests:
                self._jobs[job.id] = job
            return bool(job.open_requests)

    def take_uncounted(self, job: Job) -> list[Request]:
        """Return the requests of a job that the counters do not include; from now on they do."""
        with self._lock:
            found = [request for request in job.requests if not request.is_counted]
            for request in found:
                request.is_counted = True
            return found

    def mark_recorded(self, job: Job) -> None:
        """Note that the record of a job is in Redis, and that the gatherer reads its answer."""
        with self._lock:
            job.is_recorded = True
            self._gatherer_has_work.notify_all()

    def mark_sent(self, job: Job, number: int, epoch: str | None) -> None:
        """Note that a chunk was sent, possibly again."""
        with self._lock:
            # The answer may have arrived already.
            if job.id not in self._jobs or (job.assembly and number not in job.assembly.missing):
                return
            before = job.pending.get(number)
            count = 1 if before is None else before.count + 1
            job.pending[number] = Sending(next(self._positions), epoch, count)
            self._pending_chunks[job.queue] += before is None

    def mark_answered(self, job: Job, number: int) -> None:
        """Note that the rows of a chunk have arrived."""
        with self._lock:
            sending = job.pending.pop(number, None)
            if sending is not None:
                self._pending_chunks[job.queue] -= 1
                position = max(sending.position, self.answered_position(job.queue))
                self._answered_positions[job.queue] = position

    def pending_chunks(self, queue: str) -> int:
        """Return the number of chunks that were sent to a queue and not answered."""
        return self._pending_chunks[queue]

    def answered_position(self, queue: str) -> int:
        """Return the highest position of an answered chunk of a queue."""
        return self._answered_positions.get(queue, 0)

    def _drop_job(self, job: Job) -> None:
        if self._jobs.pop(job.id, None) is not None:
            self._pending_chunks[job.queue] -= len(job.pending)
            job.pending.clear()

    def get_job(self, job_id: str) -> Job | None:
        """Return a job that has open requests, or None."""
        with self._lock:
            return self._jobs.get(job_id)

    def remove_job(self, job: Job) -> list[Request]:
        """Remove a job; return its open requests."""
        with self._lock:
            self._drop_job(job)
            requests = list(job.open_requests.values())
            job.open_requests.clear()
            for request in requests:
                request.job = None
            return requests

    def fail(self, job: Job, error: Exception) -> None:
        """Remove a job and fail its open requests."""
        for request in self.remove_job(job):
            if self.take_request(request.number) is not None:
                # Each request needs its own copy: raising an error changes it.
                request.fail(copy.copy(error) if job.is_shared else error)

    def jobs(self) -> list[Job]:
        """Return the jobs that are not answered yet."""
        with self._lock:
            return list(self._jobs.values())

    def wait_for_job(self, seconds_left: Callable[[], float | None]) -> bool:
        """Wait until a job is in Redis, the registry is closed, or ``wake_gatherer`` is called.

        Args:
            seconds_left: returns the maximum seconds to wait; None for no limit.

        Returns:
            Whether a job is in Redis.
        """
        with self._lock:
            if not self.is_closed and not self.has_recorded_job():
                self._gatherer_has_work.wait(seconds_left())
            return not self.is_closed and self.has_recorded_job()

    def wake_gatherer(self) -> None:
        """End ``wait_for_job``, because ``seconds_left`` has changed."""
        with self._lock:
            self._gatherer_has_work.notify_all()

    def has_recorded_job(self) -> bool:
        """Return whether the gatherer must read the answer of a job."""
        with self._lock:
            return any(job.is_recorded for job in self._jobs.values())

    # -- closing

    @property
    def is_closed(self) -> bool:
        """Whether the registry accepts no more requests."""
        return self._closed.is_set()

    def wait_until_closed(self, seconds: float) -> None:
        """Wait until the registry is closed, or the time is over."""
        self._closed.wait(seconds)

    def close(self) -> list[Request]:
        """Close the registry to new requests; return the open ones."""
        with self._lock:
            self._closed.set()
            requests = list(self._requests.values())
            self._requests.clear()
            self._jobs.clear()
            self._gatherer_has_work.notify_all()
            self._deadline_changed.notify_all()
            return requests
