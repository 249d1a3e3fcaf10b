"""The claim on a shared queue: all workers that take from it have one and the same model.

A claim is a key with a time to live that holds a fingerprint. Every worker of that fingerprint
renews it; when the last one is gone it ends, and the queue is free for another model.
"""

from typing import Any

from redis import Redis

from bertq import adverts, keys

# In one step on the server: between a look and a write another worker could come in.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return holder
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ARGV[1]
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('UNLINK', KEYS[1])
end
"""


def take(redis: Redis, queue: str, fingerprint: str) -> str:
    """Take, or renew, the claim on a queue.

    Returns:
        The fingerprint that holds the queue: another one if the claim was refused.
    """
    run: Any = redis.eval
    holder: bytes = run(_TAKE, 1, keys.claim(queue), fingerprint, keys.WORKER_TTL)
    return holder.decode()


def release(redis: Redis, queue: str, fingerprint: str) -> None:
    """Give the claim up, unless another worker of the same fingerprint still needs it."""
    others = adverts.read(redis)
    if not any(queue in other.queues and other.fingerprint == fingerprint for other in others):
        run: Any = redis.eval
        run(_RELEASE, 1, keys.claim(queue), fingerprint)


def time_left(redis: Redis, queue: str) -> float:
    """Return the seconds until a claim ends; zero or less if there is none."""
    milliseconds: Any = redis.pttl(keys.claim(queue))
    return int(milliseconds) / 1000
