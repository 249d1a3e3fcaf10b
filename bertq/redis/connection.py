"""Plain connections to Redis, separate from Celery's, and explanations of their errors."""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.connection import ConnectionPool, SSLConnection, parse_url
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from bertq.errors import BertqError, RedisFull, RedisUnavailable, SettingsError
from bertq.redis import redis_url, sentinel, server, tls
from bertq.redis.outage import code, refuses_writes, server_message
from bertq.redis.primary import (
    NO_REPLICAS,
    Primary,
    PrimaryConnection,
    PrimaryTLSConnection,
    ReadOnlyServer,
)
from bertq.redis.sentinel import SentinelError

#: Maximum seconds for one command, and for connecting. Longer than any blocking read.
SOCKET_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 5.0

#: Maximum seconds for a check that may be left out.
_CHECK_SECONDS = 2.0

#: Where the URL of Redis is set, for errors.
_SOURCES = "BERTQ_REDIS_URL or --redis-url"

#: What the unreachable primary of Sentinels means, and what to do.
_FAILOVER = "a failover may be in progress, try again"


def connect(url: str, timeout: float | None = None) -> Redis:
    """Return a client for ``url`` that is safe to share between threads.

    It connects on the first command and never retries one: callers know which commands may be
    repeated, and until when.

    Args:
        url: URL of the server.
        timeout: maximum seconds for a command, and for connecting, if the defaults are too long.
    """
    pool = ConnectionPool(
        socket_timeout=min(SOCKET_TIMEOUT_SECONDS, timeout or SOCKET_TIMEOUT_SECONDS),
        socket_connect_timeout=min(CONNECT_TIMEOUT_SECONDS, timeout or CONNECT_TIMEOUT_SECONDS),
        retry=Retry(NoBackoff(), 0),
        **connection_options(url),
    )
    return Redis.from_pool(pool)


def connection_options(url: str) -> dict[str, Any]:
    """Return the class of the connections to ``url``, and its arguments without the timeouts.

    The connections find the primary, and leave it when it is one no more.
    """
    options: dict[str, Any] = {"primary": Primary()}
    if sentinel.is_url(url):
        service = sentinel.parse(url)
        has_tls = service.tls is not None
        options |= {"sentinels": service.sentinels, "db": service.database, **service.login}
        options |= service.tls or {}
    else:
        options |= parse_url(url)  # type: ignore[no-untyped-call]
        has_tls = options.pop("connection_class", None) is SSLConnection
    options["connection_class"] = PrimaryTLSConnection if has_tls else PrimaryConnection
    return options


def run_script(redis: Any, script: str, names: list[str], *arguments: str | float) -> Any:
    """Run a Lua script on the server, in one step, and return its result.

    The server gets the script's hash. Only a server that does not know the script gets its source,
    and every script of a pipeline is sent as source, because the pipeline could not be repeated.

    Args:
        redis: a client, or a pipeline, which returns the result later.
        script: source of the script.
        names: the keys that the script uses, its ``KEYS``.
        arguments: its ``ARGV``.
    """
    if not isinstance(redis, Pipeline):
        try:
            return redis.execute_command(*script_command(script, names, *arguments))
        except NoScriptError:
            pass
    return redis.eval(script, len(names), *names, *arguments)


def script_command(
    script: str, names: list[str], *arguments: str | float
) -> tuple[str | float, ...]:
    """Return the command that runs a script, as ``run_script``, if the server knows the script."""
    return ("EVALSHA", script_hash(script), len(names), *names, *arguments)


@cache
def script_hash(script: str) -> str:
    """Return the name under which a server stores a script: the SHA-1 of its source."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


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
        message = (
            f"{where} has reached its memory limit: raise maxmemory, or try again when clients "
            "have fetched their vectors"
        )
        return RedisFailure(RedisFull(message), final=False)
    if isinstance(error, ResponseError) and code(error) == "MISCONF":
        message = f"{where} cannot write its data to disk and takes no more work: is the disk full?"
        return RedisFailure(RedisFull(message), final=False)
    if isinstance(error, AuthenticationError):
        message = f"{where} refuses the login: check user and password in {_SOURCES}"
        if "@" not in url:
            address = "HOST:PORT/SERVICE/0" if sentinel.is_url(url) else "HOST:PORT/0"
            scheme = url.partition("://")[0]
            message = (
                f"{where} requires a login: set {_SOURCES} to {scheme}://:PASSWORD@{address} or "
                f"{scheme}://USER:PASSWORD@{address}"
            )
        return RedisFailure(RedisUnavailable(message), final=True)
    if is_cluster_error(error):
        return RedisFailure(RedisUnavailable(f"{where} {server.NO_CLUSTER}"), final=True)
    if isinstance(error, NoPermissionError):
        message = (
            f"{where} refuses: {server_message(error)} (docs/users.acl lists the rights of each "
            "role)"
        )
        return RedisFailure(RedisUnavailable(message), final=True)
    if isinstance(error, ReadOnlyServer):
        remedy = _FAILOVER if sentinel.is_url(url) else f"set {_SOURCES} to its primary"
        message = f"{where} is a replica and takes no writes: {remedy}"
        if error.code == NO_REPLICAS:
            message = f"{where} takes no writes without its replicas ({NO_REPLICAS}): start them"
        return RedisFailure(RedisUnavailable(message), final=False)
    if isinstance(error, SentinelError):
        message = f"{where} cannot be reached: {error}"
        return RedisFailure(RedisUnavailable(message), final=error.is_final)
    if isinstance(error, ResponseError):
        message = f"{where} refuses: {server_message(error)}"
        return RedisFailure(RedisUnavailable(message), final=not refuses_writes(error))
    if untrusted_reason := tls.untrusted_reason(error):
        return RedisFailure(RedisUnavailable(f"{where} {untrusted_reason}"), final=True)
    if isinstance(error, InvalidResponse):
        message = f"{where} does not answer as Redis does: check the port in {_SOURCES}"
        return RedisFailure(RedisUnavailable(message), final=False)
    message = f"{where} cannot be reached: {str(error).rstrip('.') or type(error).__name__}"
    is_refused = any(isinstance(cause, ConnectionRefusedError) for cause in tls.causes(error))
    if sentinel.is_url(url):
        message += f"; {_FAILOVER}"
    elif is_refused:
        message += (
            f". Start a Redis (bertq serve and bertq redis include one), or set {_SOURCES} to the "
            "address of yours"
        )
    if tls.is_handshake_timeout(error):
        message += "; does it speak TLS at this port?"
    return RedisFailure(RedisUnavailable(message), final=False)


def is_cluster_error(error: BaseException) -> bool:
    """Return whether only a node of Redis Cluster raises such an error."""
    return (
        isinstance(error, ClusterError | ClusterCrossSlotError | AskError | TryAgainError)
        and not isinstance(error, MasterDownError)
    ) or "not allowed in cluster mode" in str(error)


def refuse_cluster(url: str) -> None:
    """Refuse Redis Cluster before a program starts; do nothing if Redis cannot be reached.

    Raises:
        SettingsError: Redis runs in cluster mode.
    """
    with connect(url, _CHECK_SECONDS) as redis:
        try:
            server.refuse_cluster(redis)
        except (RedisError, OSError) as error:
            if is_cluster_error(error):
                raise SettingsError(str(explain(error, url).error)) from None
