"""Celery pool: runs chunks in threads around one model, and callbacks on the hub's thread.

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
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.concurrency.base import BasePool
from celery.worker import state

from bertq_workers.background.worker_thread import WorkerThread
from bertq_workers.batching.capacity import Capacity, ChunkSize, WorkerCapacity
from bertq_workers.celery_compat import failures
from bertq_workers.celery_compat.request import return_message
from bertq_workers.celery_compat.shutdown import end_after_error

log = logging.getLogger("bertq.worker")

Callback = Callable[..., Any]


class PoolJob:
    """A chunk in the pool; Celery's request has a weak reference to it."""

    def __init__(self, run: Callable[[], Any], done: Callback, failed: Callback) -> None:
        self.run = run
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


class ChunkPool(BasePool):
    """A pool with one thread for each chunk, from start to end; the batcher's lanes run batches.

    The threads do all work except computing: they check the job's record, tokenize, wait for the
    batcher, and store the rows. Their number is the highest number of chunks that were in the
    worker at the same time, which ``capacity`` limits. They are daemons, so a busy one does not
    prevent the process from ending.

    Attributes:
        capacity: the capacity of the worker. Used on the hub's thread.
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
        self._queue: queue.SimpleQueue[PoolJob | None] = queue.SimpleQueue()
        self._jobs: set[PoolJob] = set()
        self._threads: list[threading.Thread] = []
        self._is_open = True
        self._finished: deque[tuple[PoolJob, Callback, Any]] = deque()
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
        """Run a task on a thread."""
        job = PoolJob(lambda: target(*args, **(kwargs or {})), callback, error_callback)
        if not self._is_open:
            job.dropped = True  # not acknowledged: closing the channel returns it
            return job
        job.size, job.capacity = _size_of(args), self.capacity.for_queue(_queue_of(args))
        job.capacity.add(job.size)
        if len(self._jobs) == len(self._threads):
            self._start_thread()
        self._jobs.add(job)
        self._queue.put(job)
        # The end of the task is reported on the same thread, so this report cannot come after it.
        if accept_callback is not None:
            accept_callback(os.getpid(), time.monotonic())
        return job

    def on_stop(self) -> None:
        """Wait for all chunks of the pool in a warm shutdown; leave them in a cold one."""
        if state.should_terminate:
            # This is a signal handler, and may have interrupted the wait of a warm shutdown.
            self._wake()
            return
        while self._jobs and not state.should_terminate:
            select.select([self._reader], [], [])
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
            "threads": len(self._threads),
            "chunks": self.capacity.chunks,
            "rows": self.capacity.rows,
            "bytes": self.capacity.bytes,
            "unreported": len(self._finished),
        }

    def _end(self) -> None:
        self._is_open = False
        for _ in self._threads:
            self._queue.put(None)
        self._reader.close()
        self._writer.close()

    def _start_thread(self) -> None:
        name = f"bertq-chunk-{len(self._threads)}"
        thread = WorkerThread(name, self._work)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if job.dropped:
                self._post(job, job.done, None)
                continue
            try:
                answer = job.run()
            except BaseException:
                self._post(job, job.failed, failures.describe_current())
            else:
                failures.break_cycles(answer)
                self._post(job, job.done, answer)
                del answer
            del job  # otherwise the rows would stay in memory until the thread's next chunk

    def _post(self, job: PoolJob, callback: Callback, answer: Any) -> None:
        self._finished.append((job, callback, answer))
        self._wake()

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
            job, callback, answer = self._finished.popleft()
            self._jobs.discard(job)
            if job.capacity is not None:
                job.capacity.remove(job.size)
            if not job.dropped:
                _report(callback, answer)


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
        texts, body = args[2]["args"][0], args[3]
    except (LookupError, TypeError):
        return ChunkSize(1, 0)
    return ChunkSize(max(len(texts), 1) if isinstance(texts, list) else 1, len(body or b""))


def _queue_of(args: Any) -> str:
    try:
        return str(args[2]["delivery_info"]["routing_key"])
    except (LookupError, TypeError):
        return ""
