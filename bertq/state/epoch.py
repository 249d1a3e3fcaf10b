"""The epoch of a Redis: a random name that is gone, or another one, once Redis has lost its data.

It has no time to live. Whoever looks first writes it; a client that finds another one than before
sends again what it has sent.
"""

import uuid
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from bertq.protocol import keys


def read(redis: Redis) -> str | None:
    """Return the epoch, a new one if there is none; None where Redis takes no writes."""
    found: Any = redis.get(keys.EPOCH)
    if found is None:
        try:
            # Not the answer to SET: another may have been first.
            redis.set(keys.EPOCH, uuid.uuid4().hex, nx=True)
        except ResponseError:
            return None
        found = redis.get(keys.EPOCH)
    return found.decode() if found else None
