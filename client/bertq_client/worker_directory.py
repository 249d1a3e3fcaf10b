"""The client's view of the workers, from their worker info, and of Redis."""

import logging
import time
from collections.abc import Iterable

from redis import Redis, RedisError

import bertq
from bertq.protocol.limits import CHUNK_BYTES, CHUNK_ROWS
from bertq.redis import redis_url
from bertq.state import epoch, worker_info
from bertq.state.worker_info import WorkerInfo

log = logging.getLogger("bertq.client")

#: Seconds for which worker info is cached.
_FRESH = 2.0


class WorkerDirectory:
    """The workers as one client last saw them, shared by its threads.

    Attributes:
        failure: why Redis could not be reached the last time, or None if it was.
        epoch: last known epoch of Redis, which changes when Redis loses its data; None if it is
            not known.
    """

    def __init__(self, url: str, redis: Redis, *, check_version: bool = True) -> None:
        self.failure: str | None = "has not answered yet"
        self._unchecked = check_version
        self.epoch: str | None = None
        self._where = redis_url.redact(url)
        self._away = False
        self._redis = redis
        self._workers: list[WorkerInfo] = []
        self._read_at = -_FRESH

    def serving(self, queue: str) -> list[WorkerInfo]:
        """Return the workers that take from ``queue``.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        self.refresh()
        return self.known(queue)

    def refresh(self, *, ahead: bool = False) -> None:
        """Read the worker info, unless another thread has just done so.

        Args:
            ahead: read it somewhat early, so that the next request need not wait for it.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        if time.monotonic() - self._read_at < (_FRESH / 2 if ahead else _FRESH):
            return
        try:
            self._workers = worker_info.read(self._redis)
            self.epoch = epoch.read(self._redis)
        except RedisError as error:
            self.missed(error)
            raise
        if self._unchecked:
            self._check_versions()
        self.failure = None
        self._away = False
        self._read_at = time.monotonic()

    def _check_versions(self) -> None:
        """Log one warning about workers that have another version than the client."""
        for worker in self._workers:
            version = worker.versions.get("bertq", bertq.__version__)
            if version != bertq.__version__:
                self._unchecked = False
                log.warning(
                    "worker %s at %s has bertq %s, this client %s: install the same version on "
                    "both (BertClient(check_version=False) says nothing)",
                    worker.node, self._where, version, bertq.__version__,
                )  # fmt: skip

    def missed(self, error: Exception) -> None:
        """Note that Redis is unreachable, and log this once; the next refresh asks Redis."""
        self.failure = f"cannot be reached: {str(error) or type(error).__name__}"
        self._read_at = -_FRESH
        if not self._away:
            log.warning("Redis at %s is away (%s): trying again", self._where, type(error).__name__)
        self._away = True

    def known(self, queue: str) -> list[WorkerInfo]:
        """Return the workers that took from ``queue`` at the last refresh; does not ask Redis."""
        return [worker for worker in self._workers if queue in worker.queues]


def chunk_rows(workers: Iterable[WorkerInfo]) -> int:
    """Return the most sentences that a chunk for these workers, perhaps none, may have."""
    rows = CHUNK_ROWS
    for worker in workers:
        rows = min(rows, worker.max_batch_size, CHUNK_BYTES // max(1, worker.row_bytes))
    return max(1, rows)
