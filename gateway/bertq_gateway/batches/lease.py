"""The lease of a batch: one gateway runs it."""

import asyncio
import time
from contextlib import suppress

from redis import Redis, RedisError

from bertq.protocol import keys
from bertq.redis import lease
from bertq_gateway.batches.encoding import RunInThread


class LeaseLost(Exception):
    """Another gateway runs the batch."""


class BatchLease:
    """The lease of a batch, which is renewed while the batch runs.

    Args:
        redis: the Redis of the workers.
        batch_id: the batch.
        holder: the name of this gateway.
        seconds: until the lease ends if it is not renewed.
        run: runs a function on another thread.
    """

    def __init__(
        self, redis: Redis, batch_id: str, holder: str, seconds: int, run: RunInThread
    ) -> None:
        self._redis = redis
        self._key = keys.batch(batch_id)
        self._holder = holder
        self._seconds = seconds
        self._run = run
        self._renewed_at = -float(seconds)

    async def take(self) -> bool:
        """Take or renew the lease; return whether this gateway has it.

        Raises:
            RedisError: Redis cannot be reached.
        """
        asked_at = time.monotonic()
        found = await self._run(lease.take, self._redis, self._key, self._holder, self._seconds)
        if found != self._holder:
            return False
        self._renewed_at = asked_at
        return True

    async def renew(self) -> None:
        """Renew the lease from time to time, until another gateway has it.

        Raises:
            LeaseLost: another gateway has it.
        """
        while True:
            await asyncio.sleep(self._seconds / 4)
            try:
                if not await self.take():
                    raise LeaseLost
            except RedisError:
                pass  # without Redis nobody can take the lease; the next attempt is soon

    async def wait_until_held(self) -> None:
        """Return when this gateway has the lease for certain, for some seconds at least."""
        while time.monotonic() - self._renewed_at > self._seconds / 2:
            await asyncio.sleep(self._seconds / 50)

    async def release(self) -> None:
        """End the lease, so that another gateway can run the batch immediately."""
        with suppress(RedisError):  # then it expires
            await self._run(lease.release, self._redis, self._key, self._holder)
