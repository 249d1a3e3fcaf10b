"""Leases: keys with a time to live that name their holder.

A holder renews its lease while it lives. After it has ended, the lease expires, and another holder
can take it. Processes that use the same name hold a lease together.
"""

from redis import Redis

from bertq.protocol import scripts
from bertq.redis.connection import run_script

_TAKE = scripts.load("take_lease")
_RELEASE = scripts.load("release_lease")


def take(redis: Redis, key: str, holder: str, ttl_seconds: int) -> str:
    """Take or renew a lease, and return the name of its holder: another one if it was refused."""
    found: bytes = run_script(redis, _TAKE, [key], holder, ttl_seconds)
    return found.decode(errors="replace")  # anybody may have written it


def release(redis: Redis, key: str, holder: str, after_seconds: int = 0) -> None:
    """End a lease after some seconds, if ``holder`` has it."""
    run_script(redis, _RELEASE, [key], holder, after_seconds)
