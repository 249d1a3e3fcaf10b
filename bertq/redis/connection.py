"""Plain connections to Redis, separate from Celery's, and explanations of their errors."""

from dataclasses import dataclass
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.retry import Retry

from bertq.errors import BertqError, RedisFull, RedisUnavailable
from bertq.redis import redis_url, tls
from bertq.redis.outage import code, refuses_writes, server_message

#: Maximum seconds for one command, and for connecting. Longer than any blocking read.
SOCKET_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 5.0


def connect(url: str, timeout: float | None = None) -> Redis:
    """Return a client for ``url`` that is safe to share between threads.

    It connects on the first command and never retries one: callers know which commands may be
    repeated, and until when.

    Args:
        url: URL of the server.
        timeout: maximum seconds for a command, and for connecting, if the defaults are too long.
    """
    return Redis.from_url(
        url,
        socket_timeout=min(SOCKET_TIMEOUT_SECONDS, timeout or SOCKET_TIMEOUT_SECONDS),
        socket_connect_timeout=min(CONNECT_TIMEOUT_SECONDS, timeout or CONNECT_TIMEOUT_SECONDS),
        retry=Retry(NoBackoff(), 0),
    )


def run_script(redis: Any, script: str, names: list[str], *arguments: str | int) -> Any:
    """Run a Lua script on the server, in one step, and return its result.

    Args:
        redis: a client, or a pipeline, which returns the result later.
        script: source of the script.
        names: the keys that the script uses, its ``KEYS``.
        arguments: its ``ARGV``.
    """
    return redis.eval(script, len(names), *names, *arguments)


@dataclass(frozen=True)
class RedisFailure:
    """A problem with Redis.

    Attributes:
        error: the error for the caller.
        final: whether retrying is useless.
    """

    error: BertqError
    final: bool


def explain(error: BaseException, url: str) -> RedisFailure:
    """Translate an error of redis-py, kombu or a socket for the caller."""
    # In a worker, kombu raises its own errors with redis-py's as the cause.
    if not isinstance(error, RedisError) and isinstance(error.__cause__, RedisError):
        error = error.__cause__
    where = f"Redis at {redis_url.redact(url)}"
    if isinstance(error, OutOfMemoryError):
        message = f"{where} has reached its memory limit (maxmemory)"
        return RedisFailure(RedisFull(message), final=False)
    if isinstance(error, ResponseError) and code(error) == "MISCONF":
        message = f"{where} cannot write its data to disk and takes no more work: is the disk full?"
        return RedisFailure(RedisFull(message), final=False)
    if isinstance(error, AuthenticationError):
        message = f"{where} refuses the login: check user and password in the URL"
        return RedisFailure(RedisUnavailable(message), final=True)
    if isinstance(error, NoPermissionError):
        message = (
            f"{where} refuses: {server_message(error)} (docs/users.acl lists the rights of each "
            "role)"
        )
        return RedisFailure(RedisUnavailable(message), final=True)
    if isinstance(error, ResponseError) and not isinstance(error, ReadOnlyError):
        message = f"{where} refuses: {server_message(error)}"
        return RedisFailure(RedisUnavailable(message), final=not refuses_writes(error))
    if untrusted_reason := tls.untrusted_reason(error):
        return RedisFailure(RedisUnavailable(f"{where} {untrusted_reason}"), final=True)
    message = f"{where} cannot be reached: {str(error) or type(error).__name__}"
    if tls.is_handshake_timeout(error):
        message += "; does it speak TLS at this port?"
    return RedisFailure(RedisUnavailable(message), final=False)
