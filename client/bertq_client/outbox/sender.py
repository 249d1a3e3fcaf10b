"""The thread that writes a client's jobs to Redis: records, chunks, cancellations."""

import logging
import queue
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bertq.errors import BertqError
from bertq.protocol.encoding import Encoding
from bertq.state import jobs
from bertq_client import threads
from bertq_client.context import SessionContext
from bertq_client.job import Job, Sending
from bertq_client.outbox.coalescing import coalesce
from bertq_client.outbox.schedule import Schedule, Steps
from bertq_client.outbox.writer import JobAbandoned, Writer
from bertq_client.request import Request

log = logging.getLogger("bertq.client")

#: Most records that are removed in one command.
_MAX_REMOVALS = 1000


@dataclass(frozen=True, eq=False)
class Resending:
    """Chunks of a job that are sent again.

    Attributes:
        job: the job.
        lost: numbers of the chunks, with the sendings that are lost.
        only_missing: whether to look for each chunk in Redis first.
    """

    job: Job
    lost: dict[int, Sending]
    only_missing: bool


@dataclass(frozen=True, eq=False)
class Unfinished:
    """A job whose creation was begun on its caller's thread.

    Attributes:
        job: the job.
        read: reads the answer to the command that was sent; None if it must be sent again.
    """

    job: Job
    read: Callable[[], int] | None


_Work = Request | Resending | Unfinished | Callable[[], object]


class Sender:
    """The thread that takes requests from the callers, so that submitting does not block.

    Small requests with the same queue and encoding that wait at the same moment become one job:
    more arrive while one is being written. The sender never waits for further requests.

    Attributes:
        writer: writes the jobs.
    """

    def __init__(self, context: SessionContext) -> None:
        self._redis = context.redis
        self._counter = context.counter
        self._count_seconds = context.timings.count_interval_seconds
        self._is_counting = False  # the counters will be sent
        self._registry = context.registry
        self._directory = context.directory
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self.writer = Writer(context, self.count)
        self._schedule = Schedule()
        self._has_timed_out = False  # ``close`` no longer waits for the thread
        self._abandoned: list[Job] = []  # jobs to cancel at the end
        self._on_end: Callable[[], None] = lambda: None
        self.thread = threads.start(self._run, "sender")

    def send(self, request: Request) -> None:
        """Send the chunks of a request, after all earlier work."""
        self._work.put(request)

    def resume(self, job: Job, read: Callable[[], int] | None) -> None:
        """Finish the creation of a job, as ``Writer.resume``."""
        self._work.put(Unfinished(job, read))

    def call(self, call: Callable[[], object]) -> None:
        """Call a function on the sender's thread, before it sends requests that wait."""
        self._work.put(call)

    def resend(self, job: Job, numbers: list[int], only_missing: bool = False) -> None:
        """Send chunks of a job again, or only those that Redis does not have."""
        lost = {number: sending for number in numbers if (sending := job.pending.get(number))}
        if lost:
            self._work.put(Resending(job, lost, only_missing))

    def cancel_request(self, request: Request) -> None:
        """Cancel a request; its job is cancelled in Redis once it has no open requests."""

        def cancel() -> None:
            job, request.job = request.job, None
            if job is not None and not job.open_requests:
                self._cancel(job)

        self._work.put(cancel)

    def cancel_job(self, job: Job) -> None:
        """Cancel a job in Redis, so that workers drop its chunks."""
        self._work.put(lambda: self._cancel(job))

    def close(
        self, open_requests: list[Request], on_end: Callable[[], None], timeout: float
    ) -> None:
        """Cancel the open requests and end the thread, after the registry was closed.

        Args:
            open_requests: the requests that were open.
            on_end: last call of the thread; it may use Redis.
            timeout: seconds to wait for the thread; zero on the client's own threads.
        """
        self._abandoned += [job for request in open_requests if (job := request.job) is not None]
        self._on_end = on_end
        self._work.put(None)
        if timeout:
            self.thread.join(timeout)
            self._has_timed_out = self.thread.is_alive()

    def count(self, job: Job) -> None:
        """Count the requests of a job that is sent, unless they are; send the counters soon."""
        for request in self._registry.take_uncounted(job):
            self._counter.add(job.queue, len(request.texts))
        if not self._is_counting:
            self._is_counting = True
            self._work.put(lambda: self._schedule.add(_log_errors(self._send_counters())))

    def _send_counters(self) -> Steps:
        yield self._count_seconds
        self._is_counting = False
        with suppress(BertqError, JobAbandoned):  # the next time, or at the end
            yield from self.writer.send_counters()

    def _run(self) -> None:
        # No variable here may refer to a finished job, or its client could not be collected.
        is_ending = False
        while self._schedule or not is_ending:
            if not is_ending:
                is_ending = self._start_work()
            self._schedule.run_step(without_waiting=is_ending)
        self._clean_up()
        self._redis.close()

    def _start_work(self) -> bool:
        """Start the queued work; wait for some until a step is due. Return True at the end."""
        small: dict[tuple[str, Encoding], list[Request]] = {}
        seconds = self._schedule.seconds_left
        while True:
            try:
                work = self._work.get(timeout=seconds)
            except queue.Empty:
                break
            seconds = 0.0
            if work is None:
                return True  # queued requests are abandoned
            if isinstance(work, Resending):
                steps = self.writer.resend(work.job, work.lost, only_missing=work.only_missing)
                self._schedule.add(self._run_steps(work.job, steps))
                del steps
            elif isinstance(work, Unfinished):
                steps = self.writer.resume(work.job, work.read)
                self._schedule.add(self._run_steps(work.job, steps))
                del steps
            elif not isinstance(work, Request):
                _call(work)
            elif work.is_small and work.may_share_job:
                small.setdefault((work.queue, work.encoding), []).append(work)
            else:
                self._schedule.add(self._send([work]))
            del work
        for (name, _), requests in small.items():
            for group in self._coalesce(name, requests):
                self._schedule.add(self._send(group))
        return False

    def _coalesce(self, name: str, requests: list[Request]) -> list[list[Request]]:
        try:
            return list(coalesce(requests, self._directory.known(name)))
        except Exception:
            log.exception("requests cannot share a chunk; each is sent alone")
            return [[request] for request in requests]

    def _send(self, requests: list[Request]) -> Steps:
        requests = self._registry.filter_open(requests)
        if not requests:
            return
        job = Job(requests)
        del requests
        if self._registry.add_job(job):
            yield from self._run_steps(job, self.writer.write(job))

    def _run_steps(self, job: Job, steps: Steps) -> Steps:
        """Run the steps of a job; an error ends the job, but not the thread."""
        try:
            yield from steps
        except JobAbandoned:
            self._cancel(job)
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
        self._cancel(job)

    def _cancel(self, job: Job) -> None:
        if self._registry.is_closed:
            self._abandoned.append(job)  # cancelled together at the end
        elif job.may_be_recorded:
            self._schedule.add(_log_errors(self._cancel_in_redis(job)))

    def _cancel_in_redis(self, job: Job) -> Steps:
        try:
            yield from self.writer.cancel(job)
        except JobAbandoned:  # the client was closed in the meantime
            self._abandoned.append(job)

    def _clean_up(self) -> None:
        if self._has_timed_out:
            return
        try:
            abandoned = [job for job in self._abandoned if job.may_be_recorded]
            recorded = [job.id for job in abandoned]
            for first in range(0, len(recorded), _MAX_REMOVALS):
                jobs.discard(self._redis, recorded[first : first + _MAX_REMOVALS])
            self._counter.send(self._redis)
            self._on_end()
            for job in abandoned:
                for _ in self.writer.withdraw(job):
                    if self._has_timed_out:
                        return
        except Exception as error:
            log.debug("the client's data in Redis will expire: %r", error)


# No error may end the sender's thread: all later callers would wait forever.


def _call(command: Callable[[], object]) -> None:
    try:
        command()
    except Exception:
        log.exception("the client could not complete a step and continues")


def _log_errors(steps: Steps) -> Steps:
    try:
        yield from steps
    except Exception:
        log.exception("the client could not complete a step and continues")
