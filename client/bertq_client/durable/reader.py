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
from bertq_client.inbox.assembly import PlannedChunk
from bertq_client.inbox.reply_stream import Notice

_T = TypeVar("_T")


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
        payload: Any = self.run(lambda: self.redis.get(keys.plan(self._id)))
        if payload is None:
            self._check_not_cancelled()
            raise LostResult(f"Redis has lost the plan of job {self._id}")
        return plan.unpack(payload, info.rows)

    def results(self, count: int, seconds_left: Callable[[], float]) -> Iterator[tuple[int, bytes]]:
        """Return the number and the stored result of each chunk, as they arrive.

        Args:
            count: number of chunks.
            seconds_left: returns how much longer to wait for a result; called repeatedly.

        Raises:
            concurrent.futures.CancelledError: the job was cancelled.
            UnknownJob: the job does not exist.
            LostResult: Redis has lost a result, but not the job.
            RedisUnavailable: Redis cannot be reached.
        """
        last_entry_id, seen = b"0-0", 0
        while seen < count:
            seconds = seconds_left()
            notices = self._read(last_entry_id, seconds)
            if not notices:
                self._check_not_cancelled()
                if seconds <= 0:
                    return
                continue
            for first in range(0, len(notices), reply_stream.MAX_RESULTS):
                part = notices[first : first + reply_stream.MAX_RESULTS]
                yield from self._fetch([notice.task_id for notice in part])
            last_entry_id, seen = notices[-1].entry_id, seen + len(notices)

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
        stream = keys.reply(self._id)
        return reply_stream.parse(
            self.run(lambda: reply_stream.read(self.redis, stream, last_entry_id, wait_seconds))
        )

    def _fetch(self, task_ids: list[str]) -> Iterator[tuple[int, bytes]]:
        payloads: Any = self.run(lambda: reply_stream.fetch(self.redis, task_ids))
        for task_id, payload in zip(task_ids, payloads, strict=True):
            parts = keys.split_task_id(task_id)
            if payload is None or parts is None:
                self._check_not_cancelled()
                raise LostResult(f"Redis has lost the result of chunk {task_id}")
            yield parts[1], payload

    def _check_not_cancelled(self) -> None:
        if self.info().status == "cancelled":
            raise CancelledError(f"job {self._id} was cancelled")
