"""Retries of commands while Redis is unreachable or full, without a server."""

import time
from collections.abc import Callable

import pytest
from redis import RedisError
from redis.exceptions import AuthenticationError, OutOfMemoryError
from redis.exceptions import ConnectionError as RedisConnectionError

from bertq.errors import RedisFull, RedisUnavailable
from bertq.redis.retry import Retry, call_with_retries

URL = "redis://:secret@127.0.0.1:6379/0"


class Command:
    """A command that fails some times and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def away() -> Exception:
    return RedisConnectionError("connection refused")


def full() -> Exception:
    return OutOfMemoryError("command not allowed when used memory > 'maxmemory'")


def test_a_command_is_retried_with_growing_pauses() -> None:
    pauses, retried = list[float](), list[Exception]()
    command = Command(away(), OSError("no route"), full())
    made = Retry(URL, wait=pauses.append, on_retry=retried.append)
    assert made.call(command) == "answer"
    assert pauses == [0.05, 0.1, 0.2]
    assert [type(error) for error in retried] == [RedisConnectionError, OSError, OutOfMemoryError]


@pytest.mark.parametrize(
    ("error", "expected", "seconds"), [(away, RedisUnavailable, 0.5), (full, RedisFull, 0.2)]
)
def test_the_time_is_bounded(
    error: Callable[[], Exception], expected: type[Exception], seconds: float
) -> None:
    made = Retry(URL, full_seconds=0.2, unreachable_seconds=0.5)
    began = time.monotonic()
    with pytest.raises(expected) as caught:
        made.call(Command(*(error() for _ in range(100))))
    assert time.monotonic() - began > seconds
    assert "secret" not in str(caught.value)


def test_the_time_begins_when_the_command_is_needed_or_another_one_succeeds() -> None:
    made = Retry(URL, unreachable_seconds=10, wait=lambda seconds: None)
    earlier = time.monotonic() - 11
    with pytest.raises(RedisUnavailable):
        made.call(Command(away()), since=earlier)
    assert made.call(Command(), since=earlier) == "answer"
    assert made.call(Command(away()), since=earlier) == "answer"


def test_a_command_that_redis_always_refuses_is_not_retried() -> None:
    command, retried = Command(AuthenticationError("WRONGPASS")), list[Exception]()
    with pytest.raises(RedisUnavailable, match="refuses the login"):
        Retry(URL, on_retry=retried.append).call(command)
    assert (command.calls, retried) == (1, [])


def test_other_errors_are_not_retried() -> None:
    command = Command(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        Retry(URL).call(command)
    assert command.calls == 1


def test_a_command_that_is_no_longer_needed_is_not_retried() -> None:
    class NotNeeded(Exception):
        pass

    def check() -> None:
        if command.calls:
            raise NotNeeded

    command, retried = Command(away()), list[Exception]()
    with pytest.raises(NotNeeded):
        Retry(URL, on_retry=retried.append).call(command, check=check)
    assert (command.calls, retried) == (1, [])


def test_the_caller_may_decide_about_each_error() -> None:
    def give_up(error: Exception) -> Exception | None:
        return error if isinstance(error, OutOfMemoryError) else None

    pauses = list[float]()
    command = Command(away(), away(), full())
    with pytest.raises(RedisError, match="maxmemory"):
        call_with_retries(
            command, give_up, wait=pauses.append, first_pause_seconds=2, longest_pause_seconds=3
        )
    assert pauses == [2, 3]
