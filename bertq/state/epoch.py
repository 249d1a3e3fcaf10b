"""The epoch of a Redis: a random name that disappears or changes when Redis loses its data.

The epoch does not expire. The first process that reads it also writes it. A client that finds a new
epoch sends its chunks again.
"""

import uuid
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from bertq.protocol import keys


def read(redis: Redis) -> str | None:
    """Return the epoch, creating it if it is missing; None if Redis takes no writes."""
    found: Any = redis.get(keys.EPOCH)
    if found is None:
        try:
            # Do not use the reply to SET: another process may have been first.
            redis.set(keys.EPOCH, uuid.uuid4().hex, nx=True)
        except ResponseError:
            return None
        found = redis.get(keys.EPOCH)
    return found.decode() if found else None
