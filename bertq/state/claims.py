"""The claim on a shared queue, which ensures that all its workers have the same model.

A claim is a key with a time to live that holds a fingerprint. Every worker with that fingerprint
renews it. Some seconds after the last of them has ended, the claim expires, and another model can
use the queue.
"""

from typing import Any

from redis import Redis

from bertq.protocol import keys
from bertq.redis.connection import run_script

# One step on the server, because another worker could interfere between a read and a write. EXPIRE
# renews a claim: a full Redis does not refuse it.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return holder
end
if holder then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
return ARGV[1]
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""


def take(redis: Redis, queue: str, fingerprint: str) -> str:
    """Take or renew the claim on a queue.

    Returns:
        The fingerprint that holds the queue: another one if the claim was refused.
    """
    holder: bytes = run_script(redis, _TAKE, [keys.claim(queue)], fingerprint, keys.WORKER_TTL)
    return holder.decode()


def release(redis: Redis, queue: str, fingerprint: str) -> None:
    """Give up a worker's part in the claim.

    The claim ends slightly later than any other worker with the same fingerprint would renew it.
    """
    run_script(redis, _RELEASE, [keys.claim(queue)], fingerprint, keys.WORKER_TTL // 3 + 1)


def time_left(redis: Redis, queue: str) -> float:
    """Return the seconds until a claim ends; negative if there is no claim, or it never ends."""
    milliseconds: Any = redis.pttl(keys.claim(queue))
    return int(milliseconds) / 1000
