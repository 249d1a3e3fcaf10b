"""Reads the results of a durable job; any number of readers may do so."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from bertq.errors import LostResult, Timeout, UnknownJob
from bertq.protocol import keys
from bertq.redis import redis_url
from bertq.state import durable_jobs
from bertq.state.durable_jobs import JobInfo
from bertq_client.context import SessionContext
from bertq_client.durable import plan
from bertq_client.inbox import reply_stream
from bertq_client.inbox.reply_stream import Notice, StreamReader
from bertq_client.outbox.deduplication import PlannedChunk

_T = TypeVar("_T")

#: The id before all entries of a stream.
_BEGINNING = b"0-0"


class Reader:
    """Reader of one durable job.

    Args:
        context: what the threads of the session share.
        job_id: id of the job.

    Attributes:
        redis: the connection.
    """

    def __init__(self, context: SessionContext, job_id: str) -> None:
        self.redis = context.redis
        self._address = redis_url.redact(context.url)
        self._directory = context.directory
        self._read_seconds = context.timings.read_seconds
        self._retry = context.retry()
        self._check_open = context.check_open
        self._id = job_id
        self._stream = keys.reply(job_id)
        self._deadline = math.inf  # monotonic

    def set_timeout(self, timeout: float | None) -> None:
        """End all further calls ``timeout`` seconds from now, even if Redis does not answer."""
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout

    @property
    def seconds_left(self) -> float:
        """Seconds until the timeout."""
        return self._deadline - time.monotonic()

    def info(self) -> JobInfo:
        """Return the state of the job.

        Raises:
            UnknownJob: the job does not exist.
            RedisUnavailable: Redis cannot be reached.
        """
        found = self.run(lambda: durable_jobs.read(self.redis, [self._id]))
        if not found:
            raise UnknownJob(
                f"there is no job {self._id} in Redis at {self._address}: it has expired or was "
                "discarded, or Redis has lost its data"
            )
        return found[0]

    def plan(self, info: JobInfo) -> list[PlannedChunk]:
        """Return the plan of the job: which rows its chunks fill.

        Raises:
            concurrent.futures.CancelledError: the job was cancelled.
            UnknownJob: the job does not exist.
        """
        payload = self.run(lambda: durable_jobs.read_plan(self.redis, self._id))
        if payload is None:
            self._check_not_cancelled()
            raise LostResult(f"Redis has lost the plan of job {self._id}")
        return plan.unpack(payload, info.rows)

    def results(self, count: int, seconds_left: Callable[[], float]) -> Iterator[tuple[int, bytes]]:
        """Return the number and the stored result of each chunk once, as they arrive.

        Args:
            count: number of chunks.
            seconds_left: returns how much longer to wait for a result; called repeatedly.

        Raises:
            concurrent.futures.CancelledError: the job was cancelled.
            UnknownJob: the job does not exist.
            LostResult: Redis has lost a result, but not the job.
            RedisUnavailable: Redis cannot be reached.
        """
        last_entry_id, found = _BEGINNING, set[int]()
        has_read_all = False  # from the beginning, after the last notice
        while len(found) < count:
            seconds = seconds_left()
            notices = self._read(last_entry_id, seconds)
            if not notices:
                is_finished = self._is_finished()
                if seconds <= 0:
                    return
                # Redis may have lost the last notices, and announced chunks a second time.
                if self._has_lost(last_entry_id) or (is_finished and not has_read_all):
                    last_entry_id, has_read_all = _BEGINNING, is_finished
                elif is_finished:
                    missing = count - len(found)
                    raise LostResult(f"Redis has lost {missing} notices of job {self._id}")
                continue
            for first in range(0, len(notices), reply_stream.MAX_RESULTS):
                part = notices[first : first + reply_stream.MAX_RESULTS]
                new = [notice.task_id for notice in part if _chunk_of(notice) not in found]
                for number, payload in self._fetch(new):
                    found.add(number)
                    yield number, payload
            last_entry_id = notices[-1].entry_id

    def has_worker(self, queue: str) -> bool:
        """Return whether a worker takes from a queue."""
        return bool(self.run(lambda: self._directory.serving(queue)))

    def run(self, command: Callable[[], _T]) -> _T:
        """Run a command of Redis, with retries until the timeout.

        Raises:
            RedisUnavailable: Redis cannot be reached.
            Timeout: Redis could not be reached before the timeout.
        """
        is_first = True

        def check() -> None:
            nonlocal is_first
            self._check_open()
            if not is_first and self.seconds_left <= 0:
                raise Timeout(
                    f"Redis at {self._address} has not answered in time: job {self._id} continues, "
                    "ask again later"
                )
            is_first = False

        return self._retry.call(command, check=check)

    def _read(self, last_entry_id: bytes, seconds: float) -> list[Notice]:
        """Return later notices of the stream, waiting some seconds; perhaps none."""
        wait_seconds = min(seconds, self._read_seconds) if seconds > 0 else None
        stream = StreamReader(self.redis, self._stream)
        try:
            return self.run(lambda: stream.read(last_entry_id, wait_seconds))
        finally:
            stream.release()

    def _has_lost(self, entry_id: bytes) -> bool:
        """Return whether the stream ends before a notice that was read."""
        entries: Any = self.run(lambda: self.redis.xrevrange(self._stream, count=1))
        last_entry_id = entries[0][0] if entries else _BEGINNING
        return _order_of(last_entry_id) < _order_of(entry_id)

    def _fetch(self, task_ids: list[str]) -> Iterator[tuple[int, bytes]]:
        """Return the stored results of some chunks, without those that are computed again."""
        if not task_ids:
            return
        for task_id, payload in zip(task_ids, self._read_results(task_ids), strict=True):
            parts = keys.split_task_id(task_id)
            if payload is None and parts is not None and not self._is_unanswered(parts[1]):
                payload = self._read_results([task_id])[0]  # answered again in the meantime
                if payload is None:
                    parts = None
            if parts is None:
                self._check_not_cancelled()
                raise LostResult(f"Redis has lost the result of chunk {task_id}")
            if payload is not None:
                yield parts[1], payload

    def _read_results(self, task_ids: list[str]) -> list[bytes | None]:
        found: list[bytes | None] = self.run(lambda: reply_stream.fetch(self.redis, task_ids))
        return found

    def _is_unanswered(self, chunk: int) -> bool:
        """Return whether a chunk will be computed, perhaps because Redis has lost its result."""
        names = keys.messages(self._id)
        return bool(self.run(lambda: self.redis.hexists(names, str(chunk))))

    def _is_finished(self) -> bool:
        """Return whether the job is finished; raises CancelledError if it was cancelled."""
        info = self.info()
        if info.status == "cancelled":
            raise CancelledError(f"job {self._id} was cancelled")
        return info.finished

    def _check_not_cancelled(self) -> None:
        self._is_finished()


def _chunk_of(notice: Notice) -> int | None:
    parts = keys.split_task_id(notice.task_id)
    return None if parts is None else parts[1]


def _order_of(entry_id: bytes) -> tuple[int, int]:
    milliseconds, number = entry_id.split(b"-")
    return int(milliseconds), int(number)
