"""Bounds on the chunks that a client may have in flight."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from bertq.config.parsers import positive_int
from bertq.errors import SettingsError
from bertq.integers import check_count
from bertq.state.worker_info import WorkerInfo
from bertq_client.registry import Registry
from bertq_client.worker_directory import max_chunk_rows

#: Bytes of unfetched results that one client may have in Redis.
_MAX_RESULT_BYTES = 512 * 1024 * 1024

#: Bounds of the limit on chunks in flight. The lower one leaves work for every worker.
_MIN_CHUNKS_IN_FLIGHT, _MAX_CHUNKS_IN_FLIGHT = 32, 1024

#: Assumed bytes of a row while no worker is known.
_DEFAULT_ROW_BYTES = 4 * 768

#: Seconds for which the length of a full queue is cached.
_LENGTH_MAX_AGE_SECONDS = 0.05

#: Default for the number of chunks that may wait on a queue.
MAX_PENDING_CHUNKS = 1024


@dataclass(frozen=True)
class Limits:
    """Limits that the user has set.

    Attributes:
        max_pending_chunks: how many chunks of all clients may wait on a queue.
        waits: whether a request waits at this limit; otherwise it fails.
    """

    max_pending_chunks: int = MAX_PENDING_CHUNKS
    waits: bool = True

    @classmethod
    def from_arguments(
        cls, on_full: Any, max_pending_chunks: Any, environ: Mapping[str, str]
    ) -> "Limits":
        """Check a client's arguments; for None, read ``BERTQ_MAX_PENDING_CHUNKS``.

        Raises:
            SettingsError: one of them is invalid.
        """
        if on_full not in ("wait", "raise"):
            raise SettingsError(f"on_full is {on_full!r}: it must be 'wait' or 'raise'")
        name, value = "max_pending_chunks", max_pending_chunks
        if value is None:
            name = "BERTQ_MAX_PENDING_CHUNKS"
            value = environ.get(name) or MAX_PENDING_CHUNKS
        try:
            count = positive_int(value) if isinstance(value, str) else check_count(name, value)
        except (ValueError, TypeError):
            raise SettingsError(
                f"{name} is {value!r}: it must be a whole number above zero"
            ) from None
        return cls(count, on_full == "wait")


class Window:
    """The bounds that decide whether another chunk may be sent.

    One bound limits the chunks that wait on a queue, from all clients. The other limits this
    client's chunks in flight, because results stay in Redis until the client fetches them. Each
    LPUSH returns the queue's length, so Redis is asked for it only when the queue is full.
    """

    def __init__(self, redis: Redis, registry: Registry, max_pending_chunks: int) -> None:
        self._redis = redis
        self._registry = registry
        self._max_pending_chunks = max_pending_chunks
        #: by queue: its length, and the monotonic time of the answer
        self._lengths: dict[str, tuple[int, float]] = {}

    def set_length(self, queue: str, length: int) -> None:
        """Note the number of chunks that wait on a queue."""
        self._lengths[queue] = (length, time.monotonic())

    def queue_has_capacity(self, queue: str) -> bool:
        """Return whether another chunk may wait on a queue.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        length, read_at = self._lengths.get(queue, (0, 0.0))
        is_fresh = time.monotonic() - read_at <= _LENGTH_MAX_AGE_SECONDS
        if length >= self._max_pending_chunks and not is_fresh:
            length = self.read_length(queue)
        return length < self._max_pending_chunks

    def may_be_full(self, queue: str) -> bool:
        """Return whether a queue was full when its length was last known."""
        return self._lengths.get(queue, (0, 0.0))[0] >= self._max_pending_chunks

    def read_length(self, queue: str) -> int:
        """Ask Redis how many chunks wait on a queue.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        length: Any = self._redis.llen(queue)
        self.set_length(queue, length)
        return int(length)

    def client_has_capacity(self, queue: str, workers: Iterable[WorkerInfo]) -> bool:
        """Return whether this client may have another chunk for these workers in flight."""
        workers = list(workers)
        row_bytes = max((worker.row_bytes for worker in workers), default=_DEFAULT_ROW_BYTES)
        chunk_bytes = max(1, row_bytes * max_chunk_rows(workers))
        max_chunks = max(_MAX_RESULT_BYTES // chunk_bytes, _MIN_CHUNKS_IN_FLIGHT)
        return self._registry.pending_chunks(queue) < min(max_chunks, _MAX_CHUNKS_IN_FLIGHT)
