"""Retries commands while Redis is unreachable or full."""

import time
from collections.abc import Callable
from typing import TypeVar

from redis import RedisError
from redis.exceptions import ResponseError

from bertq.errors import RedisFull
from bertq.redis.connection import RETRY_SECONDS, explain
from bertq_client.worker_directory import WorkerDirectory

_T = TypeVar("_T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Retry:
    """Repeated attempts at a command, for a bounded time.

    Args:
        url: address of Redis, for the errors.
        directory: is told when Redis is unreachable.
        wait: waits for some seconds, or less if there is a reason to continue.
    """

    def __init__(
        self, url: str, directory: WorkerDirectory, wait: Callable[[float], object]
    ) -> None:
        self._url = url
        self._directory = directory
        self._wait = wait
        self._reached = 0.0  # monotonic time of the last successful command

    def persist(self, act: Callable[[], _T], since: float, check: Callable[[], object]) -> _T:
        """Call ``act`` repeatedly while Redis is unreachable or full.

        Args:
            act: runs the command; may be called again after it succeeded, if its answer was lost.
            since: monotonic time of the first request for it.
            check: called before each attempt; raises if the command is no longer needed.

        Raises:
            RedisFull: Redis was full for ``RETRY_SECONDS`` seconds.
            RedisUnavailable: Redis was unreachable for twice as long, or will always refuse the
                command.
        """
        pause = _FIRST_PAUSE
        while True:
            check()
            try:
                done = act()
            except (RedisError, OSError) as error:
                check()
                if not isinstance(error, ResponseError):  # Redis did not answer
                    self._directory.missed(error)
                failure = explain(error, self._url)
                # Not since the first attempt: a command behind another one has waited equally long.
                waited = time.monotonic() - max(since, self._reached)
                # A restarted Redis loads its data first.
                retry = RETRY_SECONDS if isinstance(failure.error, RedisFull) else 2 * RETRY_SECONDS
                if failure.final or waited + pause > retry:
                    raise failure.error from None
            else:
                self._reached = time.monotonic()
                return done
            self._wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
