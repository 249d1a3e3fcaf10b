"""The client's view of the workers, from their worker info, and of Redis."""

import logging
import math
import time
from collections.abc import Iterable

from redis import Redis, RedisError

import bertq
from bertq.errors import VersionMismatch
from bertq.protocol import versions
from bertq.protocol.limits import MAX_CHUNK_BYTES, MAX_CHUNK_ROWS
from bertq.redis import redis_url
from bertq.redis.connection import explain
from bertq.redis.outage import code, refuses_writes
from bertq.state import epoch, worker_info
from bertq.state.worker_info import WorkerInfo

log = logging.getLogger("bertq.client")

#: Most seconds of the shortest round trip to a Redis that is near.
_NEAR_SECONDS = 0.02

#: Seconds for which worker info is cached.
MAX_AGE_SECONDS = 2.0

#: Seconds without a failure after which an outage of Redis is over. Longer than any command waits.
_OUTAGE_SECONDS = 15.0


class WorkerDirectory:
    """The workers as one client last saw them, shared by its threads.

    Args:
        url: address of Redis, for the log.
        redis: a connection.
        check_version: whether to warn about workers that have another version than the client.
        max_age_seconds: how long worker info is cached.

    Attributes:
        workers: the workers of all queues.
        failure: why Redis could not be reached the last time, or None if it was.
        epoch: last known epoch of Redis, which changes when Redis loses its data; None if it is
            not known.
    """

    def __init__(
        self,
        url: str,
        redis: Redis,
        *,
        check_version: bool = True,
        max_age_seconds: float = MAX_AGE_SECONDS,
    ) -> None:
        self.workers: list[WorkerInfo] = []
        self.epoch: str | None = None
        self._url = url
        self._address = redis_url.redact(url)
        self.failure: str | None = f"Redis at {self._address} has not answered yet"
        self._redis = redis
        self._must_check_versions = check_version
        self._max_age_seconds = max_age_seconds
        self._failed_at = -math.inf
        self._read_at = -max_age_seconds
        self._shortest_trip_seconds = math.inf

    def serving(self, queue: str) -> list[WorkerInfo]:
        """Return the workers that take from ``queue``.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        self.refresh()
        return self.known(queue)

    def known(self, queue: str) -> list[WorkerInfo]:
        """Return the workers that took from ``queue`` at the last refresh; does not ask Redis."""
        return [worker for worker in self.workers if queue in worker.queues]

    def describe_models(self) -> str:
        """Return which models the workers had at the last refresh, for messages about a queue that
        has none; empty without workers.
        """
        names = sorted({worker.public_name for worker in self.workers})
        return f", whose workers have the models {', '.join(names)}" if names else ""

    def fingerprint(self, queue: str) -> str | None:
        """Return the fingerprint of the model of ``queue``, if it is known; does not ask Redis."""
        if not self.is_fresh:
            return None
        found = {worker.fingerprint for worker in self.known(queue)}
        return found.pop() if len(found) == 1 else None

    @property
    def is_fresh(self) -> bool:
        """Whether ``refresh`` would do nothing."""
        return time.monotonic() - self._read_at < self._max_age_seconds

    @property
    def is_near(self) -> bool:
        """Whether Redis has answered lately, and usually answers quickly."""
        is_quick = self._shortest_trip_seconds <= _NEAR_SECONDS
        return is_quick and self.failure is None and self.is_fresh

    def refresh(self, *, ahead: bool = False) -> None:
        """Read the worker info, unless another thread has just done so.

        Args:
            ahead: read it somewhat early, so that the next request need not wait for it.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        max_age_seconds = self._max_age_seconds / 2 if ahead else self._max_age_seconds
        if time.monotonic() - self._read_at < max_age_seconds:
            return
        try:
            self.workers = worker_info.read(self._redis)
            began = time.monotonic()
            self.epoch = epoch.read(self._redis)
        except RedisError as error:
            self.note_failure(error)
            raise
        if self._must_check_versions:
            self._check_versions()
        self.failure = None
        self._read_at = time.monotonic()
        self._shortest_trip_seconds = min(self._shortest_trip_seconds, self._read_at - began)

    def expire(self) -> None:
        """Let the next refresh read the worker info."""
        self._read_at = -self._max_age_seconds

    def _check_versions(self) -> None:
        """Log one warning about workers that have another version than the client."""
        for worker in self.workers:
            version = worker.versions.get("bertq", bertq.__version__)
            if version != bertq.__version__:
                self._must_check_versions = False
                log.warning(
                    "worker %s at %s has bertq %s, this client %s: install the same version on "
                    "both, or hide this warning with BertClient(check_version=False)",
                    worker.node, self._address, version, bertq.__version__,
                )  # fmt: skip

    def note_failure(self, error: Exception) -> None:
        """Note that Redis is unreachable; the next refresh asks Redis.

        Log this once for each outage, unless retrying is useless: the caller then gets the error at
        once. An outage ends after some seconds without a failure: a Redis that takes no writes
        can still be read.
        """
        failure = explain(error, self._url)
        self.failure = str(failure.error)
        self.expire()
        self._shortest_trip_seconds = math.inf
        now = time.monotonic()
        is_new = now - self._failed_at > _OUTAGE_SECONDS
        self._failed_at = now
        if is_new and not failure.final:
            state = "takes no writes" if refuses_writes(error) else "is away"
            log.warning("Redis at %s %s (%s): trying again", self._address, state, code(error))


def choose_format(workers: Iterable[WorkerInfo]) -> int:
    """Return the newest wire format that these workers, perhaps none, and this client know.

    Raises:
        VersionMismatch: there is none.
    """
    listed, common = list(workers), set(versions.known())
    for worker in listed:
        common.intersection_update(worker.wire)
    if common:
        return max(common)
    others = sorted(
        f"{worker.node} reads {versions.describe(worker.wire)}"
        for worker in listed
        if versions.WIRE_VERSION not in worker.wire
    )
    raise VersionMismatch(
        f"this client writes wire format {versions.describe(versions.known())}, and its workers "
        f"do not read the same one: {', '.join(others)}; install the same version of bertq on all"
    )


def max_chunk_rows(workers: Iterable[WorkerInfo]) -> int:
    """Return the most sentences that a chunk for these workers, perhaps none, may have."""
    rows = MAX_CHUNK_ROWS
    for worker in workers:
        rows = min(rows, worker.max_batch_size, MAX_CHUNK_BYTES // max(1, worker.row_bytes))
    return max(1, rows)
