"""What the client knows of the workers, from their adverts."""

import time

from redis import Redis, RedisError

from bertq import adverts
from bertq.adverts import Advert
from bertq.limits import CHUNK_BYTES, CHUNK_ROWS

#: Seconds that a look at the adverts holds.
_FRESH = 2.0


class Fleet:
    """The workers, as one client last saw them. Its threads share it.

    Attributes:
        trouble: why Redis could not be asked the last time, or None if it could.
    """

    def __init__(self, redis: Redis) -> None:
        self.trouble: str | None = "has not answered yet"
        self._redis = redis
        self._adverts: list[Advert] = []
        self._read_at = -_FRESH

    def serving(self, queue: str) -> list[Advert]:
        """Return the workers that take from ``queue``.

        Raises:
            redis.RedisError: Redis cannot be asked.
        """
        self.refresh()
        return self.known(queue)

    def refresh(self) -> None:
        """Look at the adverts, unless somebody just has.

        Raises:
            redis.RedisError: Redis cannot be asked.
        """
        if time.monotonic() - self._read_at < _FRESH:
            return
        try:
            self._adverts = adverts.read(self._redis)
        except RedisError as error:
            self.missed(error)
            raise
        self.trouble = None
        self._read_at = time.monotonic()

    def missed(self, error: Exception) -> None:
        """Note that Redis is away; the next look is a real one."""
        self.trouble = f"cannot be reached: {str(error) or type(error).__name__}"
        self._read_at = -_FRESH

    def known(self, queue: str) -> list[Advert]:
        """Return the workers that took from ``queue`` at the last look; asks nobody."""
        return [advert for advert in self._adverts if queue in advert.queues]


def chunk_rows(workers: list[Advert]) -> int:
    """Return how many sentences go into a chunk for these workers; works for none as well."""
    rows = CHUNK_ROWS
    for worker in workers:
        rows = min(rows, worker.max_batch_size, CHUNK_BYTES // max(1, worker.row_bytes))
    return max(1, rows)
