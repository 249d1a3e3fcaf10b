"""How much may be on its way at once: bounds on what a client puts into Redis."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from bertq.config.parsers import positive_int
from bertq.errors import SettingsError
from bertq.state.worker_info import WorkerInfo
from bertq_client.registry import Registry
from bertq_client.worker_directory import chunk_rows

#: Bytes of results that may be in Redis for one client that does not come to fetch them.
_BYTES = 512 * 1024 * 1024

#: Chunks on their way that this allows at least, so that every worker has some, and at most.
_LEAST, _MOST = 32, 1024

#: Bytes of a row while no worker has told its size.
_ROW_BYTES = 4 * 768

#: Seconds that a look at the length of a full queue holds.
_FRESH = 0.05


#: Chunks that may wait on a queue, unless the user says otherwise.
MAX_PENDING_CHUNKS = 1024


@dataclass(frozen=True)
class Limits:
    """What a user allows.

    Attributes:
        max_pending_chunks: chunks that may wait on a queue, whoever sent them.
        wait: whether a request waits when there are as many; else it fails.
    """

    max_pending_chunks: int = MAX_PENDING_CHUNKS
    wait: bool = True

    @classmethod
    def of(cls, on_full: Any, max_pending_chunks: Any, environ: Mapping[str, str]) -> "Limits":
        """Check a client's arguments; ``BERTQ_MAX_PENDING_CHUNKS`` stands for a None.

        Raises:
            SettingsError: one of them cannot be used.
        """
        if on_full not in ("wait", "raise"):
            raise SettingsError(f"on_full is {on_full!r}: it must be 'wait' or 'raise'")
        name, value = "max_pending_chunks", max_pending_chunks
        if value is None:
            name = "BERTQ_MAX_PENDING_CHUNKS"
            value = environ.get(name) or MAX_PENDING_CHUNKS
        try:
            if isinstance(value, bool | float):
                raise ValueError("must be a whole number above zero")
            return cls(positive_int(value), on_full == "wait")
        except (ValueError, TypeError):
            raise SettingsError(
                f"{name} is {value!r}: it must be a whole number above zero"
            ) from None


class Window:
    """Says whether another chunk may be sent.

    Two bounds: the chunks that wait on a queue, whoever sent them; and what this client has on its
    way, because results stay in Redis until it fetches them. Each LPUSH answers with the queue's
    length: while there is room, nobody asks.
    """

    def __init__(self, redis: Redis, registry: Registry, max_pending_chunks: int) -> None:
        self._redis = redis
        self._registry = registry
        self._max = max_pending_chunks
        self._lengths: dict[str, tuple[int, float]] = {}

    def note(self, queue: str, length: int) -> None:
        """Note how many chunks wait on a queue."""
        self._lengths[queue] = (length, time.monotonic())

    def room(self, queue: str) -> bool:
        """Return whether another chunk may wait on a queue.

        Raises:
            redis.RedisError: Redis cannot be asked.
        """
        length, noted = self._lengths.get(queue, (0, 0.0))
        if length >= self._max and time.monotonic() - noted > _FRESH:
            length = self.look(queue)
        return length < self._max

    def look(self, queue: str) -> int:
        """Ask how many chunks wait on a queue.

        Raises:
            redis.RedisError: Redis cannot be asked.
        """
        length: Any = self._redis.llen(queue)
        self.note(queue, length)
        return int(length)

    def within(self, queue: str, workers: Iterable[WorkerInfo]) -> bool:
        """Return whether this client may have another chunk for these workers on its way."""
        workers = list(workers)
        row = max((worker.row_bytes for worker in workers), default=_ROW_BYTES)
        rows = chunk_rows(workers)
        most = min(max(_BYTES // max(1, row * rows), _LEAST), _MOST)
        return self._registry.pending(queue) < most
