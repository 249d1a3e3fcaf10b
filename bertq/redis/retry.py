"""Retries of commands while Redis is unreachable or full."""

import time
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from redis import RedisError

from bertq.errors import RedisFull
from bertq.redis.connection import explain

#: Seconds to retry while Redis is full; also while it is unreachable, for a worker that starts.
#: After that, the error is reported. A client retries twice as long while Redis is unreachable
#: (``bertq_client.context``).
RETRY_SECONDS = 30.0

_T = TypeVar("_T")


def _nothing(*_: object) -> None:
    """Do nothing."""


def call_with_retries(
    command: Callable[[], _T],
    give_up: Callable[[Exception], Exception | None],
    *,
    check: Callable[[], object] = _nothing,
    wait: Callable[[float], object] = time.sleep,
    first_pause_seconds: float = 0.05,
    longest_pause_seconds: float = 1.0,
) -> _T:
    """Call ``command`` until it succeeds; each pause between two attempts is twice as long.

    Args:
        command: sends commands to Redis. It may be called again after it has succeeded, if the
            answer was lost.
        give_up: called after each error of Redis or of the connection. Returns the error to raise,
            or None for another attempt.
        check: called before each attempt; raises if the command is no longer needed.
        wait: waits for some seconds, or less if there is a reason to continue.
        first_pause_seconds, longest_pause_seconds: bounds of the pauses.
    """
    return _run(attempts(command, give_up, check, first_pause_seconds, longest_pause_seconds), wait)


def attempts(
    command: Callable[[], _T],
    give_up: Callable[[Exception], Exception | None],
    check: Callable[[], object] = _nothing,
    first_pause_seconds: float = 0.05,
    longest_pause_seconds: float = 1.0,
) -> Generator[float, None, _T]:
    """Call ``command`` like ``call_with_retries``, but yield each pause instead of waiting."""
    pauses_seconds = pauses(first_pause_seconds, longest_pause_seconds)
    while True:
        check()
        try:
            return command()
        except (RedisError, OSError) as error:
            failure = give_up(error)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it refers to this call: the cycle would keep the caller's objects
        yield next(pauses_seconds)


def pauses(first_seconds: float, longest_seconds: float) -> Iterator[float]:
    """Yield pauses between attempts, without end; each is twice as long, up to the longest."""
    seconds = first_seconds
    while True:
        yield seconds
        seconds = min(2 * seconds, longest_seconds)


def _run(steps: Generator[float, None, _T], wait: Callable[[float], object]) -> _T:
    """Run attempts to their end."""
    while True:
        try:
            pause_seconds = next(steps)
        except StopIteration as end:
            answer: _T = end.value
            return answer
        wait(pause_seconds)


class Retry:
    """Retries commands for a bounded time, and explains why Redis has not accepted them.

    Args:
        url: address of Redis, for the errors.
        full_seconds: how long to retry while Redis is full.
        unreachable_seconds: how long to retry while Redis is unreachable.
        wait: as for ``call_with_retries``.
        on_retry: called with the error before each further attempt, for example to log it.
    """

    def __init__(
        self,
        url: str,
        *,
        full_seconds: float = RETRY_SECONDS,
        unreachable_seconds: float = RETRY_SECONDS,
        wait: Callable[[float], object] = time.sleep,
        on_retry: Callable[[Exception], object] = _nothing,
    ) -> None:
        self._url = url
        self._full_seconds = full_seconds
        self._unreachable_seconds = unreachable_seconds
        self._wait = wait
        self._on_retry = on_retry
        self._succeeded_at = 0.0  # monotonic time of the last successful command

    def call(
        self,
        command: Callable[[], _T],
        *,
        since: float | None = None,
        check: Callable[[], object] = _nothing,
    ) -> _T:
        """Call ``command`` until it succeeds or the time is over.

        Args:
            command: as for ``call_with_retries``.
            since: monotonic time at which the command was first needed; now by default.
            check: called before each attempt and after each failure; raises if the command is no
                longer needed.

        Raises:
            RedisFull: Redis was full for ``full_seconds``.
            RedisUnavailable: Redis was unreachable for ``unreachable_seconds``, or will always
                refuse the command.
        """
        return _run(self.attempts(command, since=since, check=check), self._wait)

    def attempts(
        self,
        command: Callable[[], _T],
        *,
        since: float | None = None,
        check: Callable[[], object] = _nothing,
    ) -> Generator[float, None, _T]:
        """Call ``command`` like ``call``, but yield each pause instead of waiting."""
        needed_at = time.monotonic() if since is None else since

        def give_up(error: Exception) -> Exception | None:
            check()
            failure = explain(error, self._url)
            # A command that waited behind another one has waited for Redis equally long.
            waited_seconds = time.monotonic() - max(needed_at, self._succeeded_at)
            is_full = isinstance(failure.error, RedisFull)
            if failure.final or waited_seconds > (
                self._full_seconds if is_full else self._unreachable_seconds
            ):
                return failure.error
            self._on_retry(error)
            return None

        answer = yield from attempts(command, give_up, check)
        self._succeeded_at = time.monotonic()
        return answer
