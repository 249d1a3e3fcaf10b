"""Reading what the workers have stored for a kept job; any number of readers may."""

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
from bertq_client.inbox.assembly import Chunk
from bertq_client.retry import Retry
from bertq_client.worker_directory import WorkerDirectory

_T = TypeVar("_T")

#: Seconds of one blocking read of the stream.
_BLOCK = 0.5

#: Notices that are read, and results that are fetched, at once.
_NOTICES, _RESULTS = 256, 8


class Reader:
    """Follows one job.

    Args:
        url: of Redis, for the errors.
        redis: a connection.
        fleet: the workers, as the client knows them.
        check: raises if the client is closed.
        job_id: of the job.

    Attributes:
        redis: the connection.
    """

    def __init__(
        self,
        url: str,
        redis: Redis,
        fleet: WorkerDirectory,
        check: Callable[[], object],
        job_id: str,
    ) -> None:
        self.redis = redis
        self._where = redis_url.redact(url)
        self._fleet = fleet
        self._patience = Retry(url, fleet, time.sleep)
        self._check = check
        self._id = job_id
        self._give_up = math.inf

    def bound(self, timeout: float | None) -> None:
        """Have what is asked from now on end when so many seconds are over, whatever Redis does."""
        self._give_up = math.inf if timeout is None else time.monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self._give_up - time.monotonic()

    def info(self) -> JobInfo:
        """Look at the job.

        Raises:
            UnknownJob: it is gone.
            RedisUnavailable: Redis cannot be asked.
        """
        found = self.ask(lambda: durable_jobs.read(self.redis, [self._id]))
        if not found:
            raise UnknownJob(
                f"no job {self._id} is kept in Redis at {self._where}: it has expired or was "
                "discarded, or Redis has lost its data"
            )
        return found[0]

    def plan(self, info: JobInfo) -> list[Chunk]:
        """Return which rows the chunks of the job fill.

        Raises:
            concurrent.futures.CancelledError: it was cancelled.
            UnknownJob: it is gone.
        """
        payload: Any = self.ask(lambda: self.redis.get(keys.plan(self._id)))
        if payload is None:
            self._check_alive()
            raise LostResult(f"Redis has lost the plan of job {self._id}")
        return plan.unpack(payload, info.rows)

    def results(self, count: int, wait: Callable[[], float]) -> Iterator[tuple[int, bytes]]:
        """Return the number and the stored result of each chunk, as they come.

        Args:
            count: how many there will be.
            wait: for how many seconds more to wait for one; asked again and again.

        Raises:
            concurrent.futures.CancelledError: the job was cancelled.
            UnknownJob: it is gone.
            LostResult: Redis has lost a result, and still knows the job.
            RedisUnavailable: Redis cannot be asked.
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
        return bool(self.ask(lambda: self._fleet.serving(queue)))

    def ask(self, question: Callable[[], _T]) -> _T:
        """Ask Redis something, for as long as it is worth while.

        Raises:
            RedisUnavailable: it cannot be asked.
            Timeout: nor could it until the time was over.
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

        return self._patience.persist(question, time.monotonic(), check)

    def _notices(self, last: bytes, wait: float) -> list[Any]:
        """Return what comes after a place in the stream within some seconds, or nothing."""
        stream = keys.reply(self._id)
        # To Redis, 0 is for ever.
        block = max(1, int(min(wait, _BLOCK) * 1000)) if wait > 0 else None
        answer: Any = self.ask(
            lambda: self.redis.xread({stream: last}, count=_NOTICES, block=block)
        )
        # RESP2 answers with a list of streams, RESP3 with a map.
        streams = answer.values() if isinstance(answer, dict) else [item[1] for item in answer]
        entries = [entry for part in streams for entry in part]
        # RESP3 has the entries of a stream within another list.
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
