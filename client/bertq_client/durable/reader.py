"""Reads the results of a durable job; any number of readers may do so."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from redis import Redis

from bertq.errors import LostResult, Timeout, UnknownJob
from bertq.protocol import keys
from bertq.redis import redis_url
from bertq.state import durable_jobs
from bertq.state.durable_jobs import JobInfo
from bertq_client.durable import plan
from bertq_client.inbox.assembly import PlannedChunk
from bertq_client.retry import Retry
from bertq_client.worker_directory import WorkerDirectory

_T = TypeVar("_T")

#: Longest time of one blocking read of the stream, in seconds.
_BLOCK = 0.5

#: Most notices in one read, and most results in one fetch.
_NOTICES, _RESULTS = 256, 8


class Reader:
    """Reader of one durable job.

    Args:
        url: address of Redis, for the errors.
        redis: a connection.
        directory: the workers, as the client knows them.
        check: raises if the client is closed.
        job_id: id of the job.

    Attributes:
        redis: the connection.
    """

    def __init__(
        self,
        url: str,
        redis: Redis,
        directory: WorkerDirectory,
        check: Callable[[], object],
        job_id: str,
    ) -> None:
        self.redis = redis
        self._where = redis_url.redact(url)
        self._directory = directory
        self._retry = Retry(url, directory, time.sleep)
        self._check = check
        self._id = job_id
        self._give_up = math.inf

    def bound(self, timeout: float | None) -> None:
        """End all further calls ``timeout`` seconds from now, even if Redis does not answer."""
        self._give_up = math.inf if timeout is None else time.monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds until this limit."""
        return self._give_up - time.monotonic()

    def info(self) -> JobInfo:
        """Return the state of the job.

        Raises:
            UnknownJob: the job does not exist.
            RedisUnavailable: Redis cannot be reached.
        """
        found = self.ask(lambda: durable_jobs.read(self.redis, [self._id]))
        if not found:
            raise UnknownJob(
                f"no job {self._id} is kept in Redis at {self._where}: it has expired or was "
                "discarded, or Redis has lost its data"
            )
        return found[0]

    def plan(self, info: JobInfo) -> list[PlannedChunk]:
        """Return the plan of the job: which rows its chunks fill.

        Raises:
            concurrent.futures.CancelledError: the job was cancelled.
            UnknownJob: the job does not exist.
        """
        payload: Any = self.ask(lambda: self.redis.get(keys.plan(self._id)))
        if payload is None:
            self._check_alive()
            raise LostResult(f"Redis has lost the plan of job {self._id}")
        return plan.unpack(payload, info.rows)

    def results(self, count: int, wait: Callable[[], float]) -> Iterator[tuple[int, bytes]]:
        """Return the number and the stored result of each chunk, as they arrive.

        Args:
            count: number of chunks.
            wait: returns how many more seconds to wait for a result; called repeatedly.

        Raises:
            concurrent.futures.CancelledError: the job was cancelled.
            UnknownJob: the job does not exist.
            LostResult: Redis has lost a result, but not the job.
            RedisUnavailable: Redis cannot be reached.
        """
        last, seen = b"0-0", 0
        while seen < count:
            left = wait()
            notices = self._notices(last, left)
            if not notices:
                self._check_alive()
                if left <= 0:
                    return
                continue
            for first in range(0, len(notices), _RESULTS):
                some = notices[first : first + _RESULTS]
                yield from self._fetch([fields[b"task"].decode() for _, fields in some])
            last, seen = notices[-1][0], seen + len(notices)

    def serving(self, queue: str) -> bool:
        """Return whether a worker takes from a queue."""
        return bool(self.ask(lambda: self._directory.serving(queue)))

    def ask(self, question: Callable[[], _T]) -> _T:
        """Send a command to Redis, with retries until the limit of ``bound``.

        Raises:
            RedisUnavailable: Redis cannot be reached.
            Timeout: Redis could not be reached before the limit.
        """
        tries = 0

        def check() -> None:
            nonlocal tries
            tries += 1
            self._check()
            if tries > 1 and self.left <= 0:
                raise Timeout(
                    f"Redis at {self._where} has not answered in time: job {self._id} goes on, "
                    "ask again later"
                )

        return self._retry.persist(question, time.monotonic(), check)

    def _notices(self, last: bytes, wait: float) -> list[Any]:
        """Return the entries after ``last`` in the stream, waiting some seconds; perhaps none."""
        stream = keys.reply(self._id)
        # To Redis, 0 means forever.
        block = max(1, int(min(wait, _BLOCK) * 1000)) if wait > 0 else None
        answer: Any = self.ask(
            lambda: self.redis.xread({stream: last}, count=_NOTICES, block=block)
        )
        # RESP2 answers with a list of streams, RESP3 with a map.
        streams = answer.values() if isinstance(answer, dict) else [item[1] for item in answer]
        entries = [entry for part in streams for entry in part]
        # RESP3 puts the entries of a stream into another list.
        return entries[0] if entries and isinstance(entries[0], list) else entries

    def _fetch(self, task_ids: list[str]) -> Iterator[tuple[int, bytes]]:
        payloads: Any = self.ask(lambda: self.redis.mget(list(map(keys.result, task_ids))))
        for task_id, payload in zip(task_ids, payloads, strict=True):
            parts = keys.split_task_id(task_id)
            if payload is None or parts is None:
                self._check_alive()
                raise LostResult(f"Redis has lost the result of chunk {task_id}")
            yield parts[1], payload

    def _check_alive(self) -> None:
        if self.info().status == "cancelled":
            raise CancelledError(f"job {self._id} was cancelled")
