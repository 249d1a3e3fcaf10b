"""What the client knows of the workers, from their adverts."""

import time

from redis import Redis

from bertq import adverts
from bertq.adverts import Advert
from bertq.limits import CHUNK_BYTES, CHUNK_ROWS

#: Seconds that a look at the adverts holds.
_FRESH = 2.0


class Fleet:
    """The workers that take from a queue."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._adverts: list[Advert] = []
        self._read_at = -_FRESH

    def serving(self, queue: str) -> list[Advert]:
        """Return the workers that take from ``queue``.

        Raises:
            redis.RedisError: Redis cannot be asked.
        """
        if time.monotonic() - self._read_at >= _FRESH:
            self._adverts = adverts.read(self._redis)
            self._read_at = time.monotonic()
        return [advert for advert in self._adverts if queue in advert.queues]


def chunk_rows(workers: list[Advert]) -> int:
    """Return how many sentences go into a chunk for these workers; works for none as well."""
    rows = CHUNK_ROWS
    for worker in workers:
        rows = min(rows, worker.max_batch_size, CHUNK_BYTES // max(1, worker.row_bytes))
    return max(1, rows)
