"""Keys that must not be left in Redis after all requests are answered."""

from contextlib import suppress
from typing import Any

from redis import Redis

from bertq.protocol import keys
from tests.waiting import eventually

_UNACKED = {keys.UNACKED.encode(), keys.UNACKED_INDEX.encode()}


def left(redis: Redis) -> list[bytes]:
    """Return queues and unacknowledged chunks, and the keys that do not expire."""
    names: Any = redis.keys()
    return [
        name
        for name in names
        if name != keys.EPOCH.encode()
        and (redis.ttl(name) == -1 or redis.type(name) == b"list" or name in _UNACKED)
    ]


def check_nothing_is_left(redis: Redis) -> None:
    """Wait until no chunk and no other key that lasts is left."""
    with suppress(AssertionError):
        # Chunks of a worker that lost its connection are redelivered after 12 to 16 s.
        eventually(lambda: not left(redis), 30)
    remaining = left(redis)
    assert not remaining, f"left in Redis: {remaining}"
