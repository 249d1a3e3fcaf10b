"""The jobs of a client that are not answered yet."""

import heapq
import threading
import time
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from bertq_client.chunks import Assembly
from bertq_client.futures import EncodeFuture

#: Deadlines of answered jobs that are kept at most, beside as many as there are jobs.
_SPARE = 64


@dataclass(eq=False)
class Job:
    """One request.

    Attributes:
        id: of the job; its chunks are ``<id>-0``, ``<id>-1``, ...
        texts: the sentences.
        queue: where the chunks go.
        future: what the caller holds.
        timeout: seconds that the caller allowed, or None.
        as_list: whether the caller wants nested lists.
        assembly: the answer so far; set before the first chunk is sent.
        recorded: whether the job's record is in Redis.
    """

    id: str
    texts: tuple[str, ...]
    queue: str
    future: EncodeFuture
    timeout: float | None
    as_list: bool
    assembly: Assembly | None = None
    recorded: bool = False
    submitted: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which it is given up."""
        return None if self.timeout is None else self.submitted + self.timeout

    def succeed(self, rows: NDArray[Any]) -> None:
        """Complete the future, unless it was cancelled meanwhile."""
        if not self.future.done():
            # Row by row: one call for all of them would keep every other thread waiting.
            answer = [row.tolist() for row in rows] if self.as_list else rows
            self._complete(self.future.set_result, answer)

    def fail(self, error: BaseException) -> None:
        """Complete the future with an error, unless it was cancelled meanwhile."""
        if not self.future.done():
            # The frames of this thread would keep the job for as long as there is the error.
            self._complete(self.future.set_exception, error.with_traceback(None))

    def _complete(self, setter: Any, value: Any) -> None:
        with suppress(InvalidStateError):  # cancelled between the look and the leap
            setter(value)


class Registry:
    """Jobs by id. Who pops a job completes its future: it happens once."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._deadlines: list[tuple[float, str]] = []  # a heap
        self._closed = threading.Event()
        self._lock = threading.RLock()
        self._has_work = threading.Condition(self._lock)
        self._sooner = threading.Condition(self._lock)

    def add(self, job: Job) -> bool:
        """Add a job; return False if the registry is closed."""
        with self._lock:
            if self._closed.is_set():
                return False
            self._jobs[job.id] = job
            self._has_work.notify_all()
            if job.deadline is not None:
                heapq.heappush(self._deadlines, (job.deadline, job.id))
                if self._deadlines[0][1] == job.id:
                    self._sooner.notify_all()
            return True

    def get(self, job_id: str) -> Job | None:
        """Return a job that is not answered yet."""
        with self._lock:
            return self._jobs.get(job_id)

    def pop(self, job_id: str) -> Job | None:
        """Remove a job and return it, or None if somebody else was first."""
        with self._lock:
            job = self._jobs.pop(job_id, None)
            if len(self._deadlines) > 2 * len(self._jobs) + _SPARE:
                # Most belong to jobs that were answered long before they are due.
                self._deadlines = [entry for entry in self._deadlines if entry[1] in self._jobs]
                heapq.heapify(self._deadlines)
            return job

    def pop_overdue(self) -> Job | None:
        """Block until a job is overdue and remove it; return None once the registry is closed."""
        with self._lock:
            while not self._closed.is_set():
                if not self._deadlines:
                    self._sooner.wait()
                elif (left := self._deadlines[0][0] - time.monotonic()) > 0:
                    self._sooner.wait(left)
                elif job := self._jobs.pop(heapq.heappop(self._deadlines)[1], None):
                    return job
            return None

    def jobs(self) -> list[Job]:
        """Return the jobs that are not answered yet."""
        with self._lock:
            return list(self._jobs.values())

    def wait(self) -> bool:
        """Block until there is a job; return False once the registry is closed."""
        with self._lock:
            self._has_work.wait_for(lambda: self._jobs or self._closed.is_set())
            return not self._closed.is_set()

    @property
    def closed(self) -> bool:
        """Whether it takes no more jobs."""
        return self._closed.is_set()

    def pause(self, seconds: float) -> None:
        """Block for some time, or until the registry is closed."""
        self._closed.wait(seconds)

    def close(self) -> list[Job]:
        """Take no more jobs; return those that were under way."""
        with self._lock:
            self._closed.set()
            jobs = list(self._jobs.values())
            self._jobs.clear()
            self._has_work.notify_all()
            self._sooner.notify_all()
            return jobs
