"""The claim on a shared queue, which ensures that all its workers have the same model.

A claim is a lease that a fingerprint holds. Every worker with that fingerprint renews it. Some
seconds after the last of them has ended, the claim expires, and another model can use the queue.
"""

from typing import Any

from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.redis import lease


def take(redis: Redis, queue: str, fingerprint: str) -> str:
    """Take or renew the claim on a queue.

    Returns:
        The fingerprint that holds the queue: another one if the claim was refused.
    """
    return lease.take(redis, keys.claim(queue), fingerprint, time_to_live.WORKER_SECONDS)


def release(redis: Redis, queue: str, fingerprint: str) -> None:
    """Give up a worker's part in the claim.

    The claim ends slightly later than any other worker with the same fingerprint would renew it.
    """
    lease.release(redis, keys.claim(queue), fingerprint, time_to_live.WORKER_SECONDS // 3 + 1)


def time_left(redis: Redis, queue: str) -> float:
    """Return the seconds until a claim ends; negative if there is no claim, or it never ends."""
    milliseconds: Any = redis.pttl(keys.claim(queue))
    return int(milliseconds) / 1000
