"""Keys that must not be left in Redis after all requests are answered."""

from contextlib import suppress
from typing import Any

from redis import Redis

from bertq.protocol import keys
from tests.waiting import eventually

#: Keys without a time to live: the epoch, and kombu's list of queues.
_PERMANENT = (keys.EPOCH, "_kombu.binding")


def left(redis: Redis) -> list[bytes]:
    """Return the keys that do not expire, such as those of waiting and unacknowledged chunks."""
    names: Any = redis.keys()
    lasting = [name for name in names if redis.ttl(name) == -1]
    return [name for name in lasting if not name.decode().startswith(_PERMANENT)]


def check_nothing_is_left(redis: Redis) -> None:
    """Wait until only permanent and expiring keys are left."""
    with suppress(AssertionError):
        # Chunks of a worker that lost its connection are redelivered after 12 to 16 s.
        eventually(lambda: not left(redis), 30)
    remaining = left(redis)
    assert not remaining, f"left in Redis: {remaining}"
