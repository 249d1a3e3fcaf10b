"""Doing something on a Redis that is away or full for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

from redis import RedisError
from redis.exceptions import ResponseError

from bertq.errors import RedisFull
from bertq.redis.connection import PATIENCE, explain
from bertq_client.worker_directory import WorkerDirectory

_T = TypeVar("_T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Retry:
    """Tries again, for a bounded time.

    Args:
        url: of Redis, for the errors.
        fleet: is told when Redis is away.
        wait: waits for some seconds, or until there is a reason not to.
    """

    def __init__(self, url: str, fleet: WorkerDirectory, wait: Callable[[float], object]) -> None:
        self._url = url
        self._fleet = fleet
        self._wait = wait
        self._reached = 0.0  # when Redis last did what it was asked, on the monotonic clock

    def persist(self, act: Callable[[], _T], since: float, check: Callable[[], object]) -> _T:
        """Do something on Redis, again and again while it is away or full.

        Args:
            act: does it; may be called again after it was done, where the answer was lost.
            since: when it was first asked for, on the monotonic clock.
            check: called before each try; raises what makes it pointless.

        Raises:
            RedisFull: there was no room for ``PATIENCE`` seconds.
            RedisUnavailable: Redis was away for twice as long, or will never do it.
        """
        pause = _FIRST_PAUSE
        while True:
            check()
            try:
                done = act()
            except (RedisError, OSError) as error:
                check()
                if not isinstance(error, ResponseError):  # then it is there, and full or so
                    self._fleet.missed(error)
                trouble = explain(error, self._url)
                # Not from the first try: those who waited behind another have waited as long.
                waited = time.monotonic() - max(since, self._reached)
                # One that is started again reads its data first.
                patience = PATIENCE if isinstance(trouble.error, RedisFull) else 2 * PATIENCE
                if trouble.final or waited + pause > patience:
                    raise trouble.error from None
            else:
                self._reached = time.monotonic()
                return done
            self._wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
