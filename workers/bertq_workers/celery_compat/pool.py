"""Celery pool: runs chunks in threads around one model, and callbacks on the hub's thread.

Chunks of small requests that were taken from Redis in one command form a group, which has one
thread. Any other chunk has a thread of its own.

Celery acknowledges, counts and reports a task in callbacks. The objects that these use (kombu's
channels, the worker's state, the buffer of events) are not thread-safe. A thread that has finished
a chunk therefore puts the callback into a deque and wakes the hub, the worker's event loop, through
a pair of sockets. Celery's pool of threads calls them from its threads, and loses events.

Relies on private parts of celery 5.7 (the version is pinned, and tests/workers/test_pool.py checks
each): the arguments of ``apply_async``, whose callbacks are methods of a request;
``register_with_event_loop`` at each reconnect; the order of the calls at a shutdown. In a warm
shutdown, ``on_stop`` is called once no more messages are taken. In a cold one, the signal handler
sets ``state.should_terminate`` and calls ``on_stop``; ``on_terminate`` follows later.
"""

import logging
import os
import queue
import select
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

from celery.concurrency.base import BasePool
from celery.worker import state
from redis import Redis

from bertq.state.jobs import JobRecord
from bertq_workers.background.worker_thread import WorkerThread
from bertq_workers.batching.capacity import Capacity, ChunkSize, WorkerCapacity
from bertq_workers.celery_compat import failures
from bertq_workers.celery_compat.request import ChunkRequest, return_message
from bertq_workers.celery_compat.shutdown import end_after_error

log = logging.getLogger("bertq.worker")

#: Most seconds of one wait for chunks in a warm shutdown.
_MAX_WAIT_SECONDS = 0.5

Callback = Callable[..., Any]


class Groups(Protocol):
    """Something that encodes groups of chunks: a ``bertq_workers.groups.GroupEncoder``."""

    def may_begin(self, running: int) -> bool:
        """Return whether another group may begin while some are encoded.

        Called on the hub's thread before chunks are taken.
        """

    def accepts(self, request: ChunkRequest, record: JobRecord | None) -> bool:
        """Return whether a chunk of a job can be in a group; called on the hub's thread."""

    def encode(self, requests: list[ChunkRequest], on_wait: Callable[[], object]) -> Sequence[Any]:
        """Return for each chunk an answer with ``summary`` and ``seconds``; None to run it alone.

        The results of the answered chunks are stored. ``on_wait`` is called if the group waits for
        other batches; ``may_begin`` may then give another answer.
        """


class PoolJob:
    """A chunk in the pool; Celery's request has a weak reference to it."""

    def __init__(self, run: Callable[[], Any], done: Callback, failed: Callback) -> None:
        self.run = run
        self.request: Any = getattr(done, "__self__", None)
        self.done = done
        self.failed = failed
        self.size = ChunkSize(0, 0)
        self.capacity: Capacity | None = None
        self.dropped = False

    def terminate(self, signal: Any = None) -> None:
        """Mark the chunk as dropped: it was revoked, or is returned to the queue.

        A thread cannot be ended; if the chunk was begun, it is finished and its result ignored.
        """
        self.dropped = True


class Report(NamedTuple):
    """The end of a chunk on a thread.

    Attributes:
        job: the chunk.
        callback: called with ``answer`` on the hub's thread; None to run the chunk again, alone.
        answer: the end of the chunk, in the form that the callback takes.
    """

    job: PoolJob
    callback: Callback | None
    answer: Any


#: Work for a thread: to run one chunk, or to encode a group.
Work = Callable[[], list[Report]]

#: The work of one thread; None ends it.
WorkQueue = queue.SimpleQueue[Work | None]


class ChunkPool(BasePool):
    """A pool with one thread for each chunk or group, from start to end.

    The threads do all work except computing, which the batcher's lanes do: they check the job's
    record, tokenize, wait for the batcher, and store the rows. Their number is the highest number
    of chunks and groups that were in the worker at the same time, which ``capacity`` limits. They
    are daemons, so a busy one does not prevent the process from ending.

    Attributes:
        capacity: the capacity of the worker. Used on the hub's thread.
        groups: encodes groups of chunks; without it, each chunk runs alone.
        take_claims: takes the worker's claims on its queues, on a connection; ends the worker if
            another model has one.
    """

    #: The body of a message may be a view of the buffer that it was received in.
    body_can_be_buffer = True
    #: Stopping waits, which a signal handler must not do.
    signal_safe = False
    task_join_will_block = False

    limit: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.capacity = WorkerCapacity()
        self.groups: Groups | None = None
        self.take_claims: Callable[[Redis], object] = lambda redis: None
        # Each thread has a queue: if several threads wait at one queue, each get also wakes another
        # thread for nothing, which then wants the interpreter's lock.
        self._queues: list[WorkQueue] = []
        #: Queues of the threads that have no work, the last used one last.
        self._idle: list[WorkQueue] = []
        #: Chunks of small requests that are not begun; None unless they are being gathered.
        self._small: list[PoolJob] | None = None
        #: Queues of the threads that encode a group.
        self._encoding: set[WorkQueue] = set()
        self._jobs: set[PoolJob] = set()
        self._is_open = True
        self._finished: deque[tuple[WorkQueue, list[Report]]] = deque()
        self._is_woken = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def register_with_event_loop(self, loop: Any) -> None:
        """Have the hub listen to the threads; called at the start and after each reconnect."""
        # A reader instead of hub.call_soon, which stores callbacks in a set and so loses their
        # order.
        loop.add_reader(self._reader.fileno(), self._on_wakeup)

    def on_apply(  # type: ignore[override]  # the stubs have no Job
        self,
        target: Callback,
        args: Any = (),
        kwargs: Any = None,
        callback: Callback = lambda _: None,
        accept_callback: Callback | None = None,
        error_callback: Callback = lambda _: None,
        **_: Any,
    ) -> PoolJob:
        """Run a task on a thread; or, after ``gather_small``, that of a small request later."""
        job = PoolJob(lambda: target(*args, **(kwargs or {})), callback, error_callback)
        if not self._is_open:
            job.dropped = True  # not acknowledged: closing the channel returns it
            return job
        job.size, job.capacity = _size_of(args), self.capacity.for_queue(_queue_of(args))
        job.capacity.add(job.size)
        self._jobs.add(job)
        if self._small is not None and job.capacity is self.capacity.small:
            self._small.append(job)
        else:
            self._put(partial(_run, job))
        # The end of the task is reported on the same thread, so this report cannot come after it.
        if accept_callback is not None:
            accept_callback(os.getpid(), time.monotonic())
        return job

    def _put(self, work: Work) -> WorkQueue:
        """Give work to a thread, and return the thread's queue."""
        work_queue = self._idle.pop() if self._idle else self._start_thread()
        work_queue.put(work)
        return work_queue

    @property
    def takes_small(self) -> bool:
        """Whether chunks of small requests may be taken now."""
        if not self.capacity.small.is_available:
            return False
        return self.groups is None or self.groups.may_begin(len(self._encoding))

    def gather_small(self) -> None:
        """Gather the chunks of small requests that are applied, until ``start_small``."""
        if self._small is None:
            self._small = []

    def start_small(self, records: Mapping[str, JobRecord]) -> None:
        """Begin the chunks of small requests that were applied since ``gather_small``.

        Args:
            records: the records of their jobs, by the tags of their messages.
        """
        applied, self._small = self._small, None
        group = []
        for job in applied or ():
            if self._can_be_grouped(job, records):
                group.append(job)
            else:
                self._put(partial(_run, job))
        if group:
            self._encoding.add(self._put(lambda: self._run_group(group)))

    def _can_be_grouped(self, job: PoolJob, records: Mapping[str, JobRecord]) -> bool:
        request = job.request
        return (
            self.groups is not None
            and isinstance(request, ChunkRequest)
            and self.groups.accepts(request, records.get(request.message.delivery_tag))
        )

    def on_stop(self) -> None:
        """Wait for all chunks of the pool in a warm shutdown; leave them in a cold one."""
        if state.should_terminate:
            # This is a signal handler, and may have interrupted the wait of a warm shutdown.
            self._wake()
            return
        while self._jobs and not state.should_terminate:
            # A second signal that arrives just before the wait does not end it.
            select.select([self._reader], [], [], _MAX_WAIT_SECONDS)
            self._on_wakeup()
        self._end()

    def on_terminate(self) -> None:
        """Acknowledge finished chunks; the others are returned to the queue."""
        self._drain()
        self._end()

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Do nothing: the worker is one process, and a thread cannot be ended."""

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc]  # not in the stubs
        return {
            **info,
            "processes": [os.getpid()],
            "threads": len(self._queues),
            "chunks": self.capacity.chunks,
            "rows": self.capacity.rows,
            "bytes": self.capacity.bytes,
            "unreported": len(self._finished),
        }

    def _end(self) -> None:
        self._is_open = False
        for work_queue in self._queues:
            work_queue.put(None)
        self._reader.close()
        self._writer.close()

    def _start_thread(self) -> WorkQueue:
        work_queue: WorkQueue = queue.SimpleQueue()
        WorkerThread(f"bertq-chunk-{len(self._queues)}", partial(self._work, work_queue)).start()
        self._queues.append(work_queue)
        return work_queue

    def _work(self, work_queue: WorkQueue) -> None:
        while (work := work_queue.get()) is not None:
            self._finished.append((work_queue, work()))
            self._wake()
            del work  # otherwise the chunk would stay in memory until the thread's next one

    def _run_group(self, group: list[PoolJob]) -> list[Report]:
        """Encode a group, on a thread."""
        assert self.groups is not None  # otherwise there are no groups
        dropped = [Report(job, job.done, None) for job in group if job.dropped]
        chosen = [job for job in group if not job.dropped]
        try:
            answers = self.groups.encode([job.request for job in chosen], self._wake)
        except BaseException:
            answers = [None] * len(chosen)  # the error comes again, for the chunk that causes it
        reports = [
            # As the trace of a task reports a success.
            Report(job, job.done, (0, answer.summary, answer.seconds))
            if answer is not None
            else Report(job, None, None)
            for job, answer in zip(chosen, answers, strict=True)
        ]
        return dropped + reports

    def _wake(self) -> None:
        # The hub clears the flag before it checks the deque, so it misses no entry.
        if not self._is_woken:
            self._is_woken = True
            with suppress(OSError):  # closed: the hub does not read any more
                self._writer.send(b"\0")

    def _on_wakeup(self) -> None:
        with suppress(BlockingIOError):
            self._reader.recv(64)
        self._is_woken = False
        self._drain()

    def _drain(self) -> None:
        while self._finished:
            work_queue, reports = self._finished.popleft()
            self._idle.append(work_queue)
            self._encoding.discard(work_queue)
            for report in reports:
                self._finish(report)

    def _finish(self, report: Report) -> None:
        job = report.job
        if report.callback is None:
            self._put(partial(_run, job))
            return
        self._jobs.discard(job)
        if job.capacity is not None:
            job.capacity.remove(job.size)
        if not job.dropped:
            _report(report.callback, report.answer)


def _run(job: PoolJob) -> list[Report]:
    """Run one chunk, on a thread."""
    if job.dropped:
        return [Report(job, job.done, None)]
    try:
        answer = job.run()
    except BaseException:
        return [Report(job, job.failed, failures.describe_current())]
    failures.break_cycles(answer)
    return [Report(job, job.done, answer)]


def _report(callback: Callback, answer: Any) -> None:
    """Report the end of a chunk to Celery's request; return the message if that fails.

    Otherwise the message would stay unacknowledged, and be renewed, as long as the worker lives.
    """
    try:
        callback(answer)
    except Exception as error:
        # An error's message is not logged, because it may quote the task.
        where = traceback.extract_tb(error.__traceback__)[-1]
        log.error(
            "the end of a chunk could not be reported: %s in %s, line %s; its message is returned "
            "to the queue unless it is acknowledged",
            type(error).__name__, where.filename, where.lineno,
        )  # fmt: skip
        try:
            return_message(callback.__self__)  # type: ignore[attr-defined]  # a method of a request
        except Exception as another:
            end_after_error("the return of a message", another)


def _size_of(args: Any) -> ChunkSize:
    """Return the size of a chunk, from Celery's arguments; one row if they are not a chunk."""
    try:
        texts, body_bytes = args[2]["args"][0], args[2]["body_bytes"]
    except (LookupError, TypeError):
        return ChunkSize(1, 0)
    return ChunkSize(max(len(texts), 1) if isinstance(texts, list) else 1, body_bytes)


def _queue_of(args: Any) -> str:
    try:
        return str(args[2]["delivery_info"]["routing_key"])
    except (LookupError, TypeError):
        return ""
