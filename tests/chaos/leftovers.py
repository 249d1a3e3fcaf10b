"""What must not be left in Redis when everything is answered."""

from contextlib import suppress
from typing import Any

from redis import Redis

from bertq.protocol import keys
from tests.waiting import eventually

#: What lives for ever: our epoch, and kombu's list of the queues.
_FOR_EVER = (keys.EPOCH, "_kombu.binding")


def left(redis: Redis) -> list[bytes]:
    """The keys that do not expire by themselves: chunks that wait or are held are among them."""
    names: Any = redis.keys()
    lasting = [name for name in names if redis.ttl(name) == -1]
    return [name for name in lasting if not name.decode().startswith(_FOR_EVER)]


def check_nothing_is_left(redis: Redis) -> None:
    """Wait until Redis holds nothing that nobody needs."""
    with suppress(AssertionError):
        # A chunk of a worker that lost its connection is delivered again after 12 to 16 s.
        eventually(lambda: not left(redis), 30)
    remaining = left(redis)
    assert not remaining, f"left in Redis: {remaining}"
