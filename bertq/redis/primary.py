"""Connections that stay with the primary: they notice a failover, and leave a replica.

Redis replicates asynchronously, so a failover loses the latest writes. Each new connection asks the
server for its role and its replication id, which a promoted replica changes. A server that has
become a replica is left at its first refusal, and the next connection looks up the address again.
"""

import os
import re
import threading
import weakref
from typing import Any

from redis import Redis
from redis.connection import Connection, DefaultParser, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, ReadOnlyError, RedisError, ResponseError

from bertq.redis.sentinel import Sentinels

#: First words of the errors of a server that is no primary any more. (redis-py has classes for
#: some, and removes the word.) NOREPLICAS is one of them if there are Sentinels, which may have
#: promoted another server.
UNBLOCKED, NO_REPLICAS = "UNBLOCKED", "NOREPLICAS"

#: The error of EXEC quotes that of a command.
_NESTED = re.compile(r"^Transaction discarded.*\b(READONLY|MASTERDOWN)\b", re.S)

#: So does the error of a script of Redis 6.
_OF_SCRIPT = re.compile(r"^Error running script.*?@user_script: \d+: -(.+)", re.S)

# redis-py has no complete types for them.
_Connection: Any = Connection
_TLSConnection: Any = SSLConnection

#: All primaries of the process, by their ids. No lock: a fork might leave it locked in the child.
_primaries: "dict[int, weakref.ref[Primary]]" = {}

_ROLE = re.compile(r"^role:(\w+)", re.M)
_REPLICATION_ID = re.compile(r"^master_replid:(\w+)", re.M)


class ReadOnlyServer(RedisConnectionError):
    """The server is a replica, or a primary that may not write; the connection is closed.

    It is an error of the connection: another server takes writes.

    Attributes:
        code: the server's code, as READONLY.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Primary:
    """The primary that the connections of a pool have reached; thread-safe.

    If the connections of another pool of the process reach another primary of the same service,
    this pool's are not used again: an old primary that was frozen would accept their commands for
    some seconds.

    Attributes:
        changes: how often a connection has reached another primary than the one before. The new
            one may lack what the old one had acknowledged.
        generation: connections of an earlier generation may lead to an old primary.
    """

    def __init__(self) -> None:
        self.changes = 0
        self.generation = 0
        self._name: str | None = None
        self._service: str | None = None
        self._lock = threading.Lock()
        key = id(self)
        _primaries[key] = weakref.ref(self, lambda _: _primaries.pop(key, None))

    def record(self, name: str, service: str) -> int:
        """Record that a new connection has reached a primary; return its generation.

        Args:
            name: name of the primary.
            service: the Sentinels, or the address, that led to it.
        """
        with self._lock:
            is_new = name != self._name
            if is_new:
                self.changes += self._name is not None
                self.generation += 1
                self._name, self._service = name, service
            generation = self.generation
        if is_new:
            for reference in list(_primaries.values()):
                if (other := reference()) is not None:
                    other._leave_other(name, service)
        return generation

    def _leave_other(self, name: str, service: str) -> None:
        """Leave a primary that has another name than the one that the service has now."""
        with self._lock:
            if self._service == service and self._name != name:
                self.generation += 1

    def leave(self) -> None:
        """Record that a server takes no writes: no connection to it is used again."""
        with self._lock:
            self.generation += 1


def _renew_locks() -> None:
    """Give all primaries new locks in a forked child: another thread may have held the old ones.

    Otherwise the first connection of the child would wait forever, also for another client.
    """
    for reference in list(_primaries.values()):
        if (primary := reference()) is not None:
            primary._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class _ToPrimary(_Connection):  # type: ignore[misc]
    """The part of a connection that is the same with and without TLS.

    Args:
        primary: what the connections of the pool know.
        sentinels: name the primary; without them, the address is ``host`` and ``port``.
        options: as for redis-py.
    """

    def __init__(
        self,
        *,
        primary: Primary | None = None,
        sentinels: Sentinels | None = None,
        **options: Any,
    ) -> None:
        self._primary = primary or Primary()
        self._sentinels = sentinels
        self._generation = 0
        super().__init__(**options)

    @property
    def is_stale(self) -> bool:
        """Whether the server may be an old primary; the next ``connect`` opens a connection."""
        return self._generation != self._primary.generation

    def connect(self) -> None:
        """Connect, unless this is a connection to the current primary."""
        if self._sock and self.is_stale:
            self.disconnect()
        super().connect()

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect to the primary; redis-py calls this for each new connection."""
        if self._sock or self._sentinels is None:
            super().connect_check_health(*args, **options)
            return
        failure: RedisError | None = None
        for address in self._sentinels.primaries():
            self.host, self.port = address
            try:
                super().connect_check_health(*args, **options)
                return
            except RedisError as error:  # perhaps this Sentinel does not know of a failover yet
                failure = error
        assert failure is not None  # otherwise there was an address
        try:
            raise failure
        finally:
            del failure  # no cycle of the error and this call: see ``read_response``

    def on_connect_check_health(self, *args: Any, **options: Any) -> None:
        """Log in, and check that the server is a primary; redis-py calls this once connected."""
        super().on_connect_check_health(*args, **options)
        service = f"{self.host}:{self.port}" if self._sentinels is None else str(self._sentinels)
        self._generation = self._primary.record(self._identify(), service)

    def _identify(self) -> str:
        """Return a name of the server that changes with a failover.

        Raises:
            ReadOnlyServer: it is a replica.
        """
        try:
            self.send_command("INFO", "replication", check_health=False)
            found: Any = self.read_response()
        except ResponseError:  # this user may not run INFO
            return str(self._sock.getpeername())
        text = found if isinstance(found, str) else bytes(found).decode("utf-8", "replace")
        role, name = _ROLE.search(text), _REPLICATION_ID.search(text)
        if role is not None and role[1] != "master":
            self._primary.leave()
            raise ReadOnlyServer("READONLY", f"{self.host}:{self.port} is a replica")
        return name[1] if name is not None else str(self._sock.getpeername())

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a response; leave a server that takes no writes because it is no primary."""
        try:
            return super().read_response(*args, **options)
        except ResponseError as response:
            # No variable refers to the error that is raised: its traceback refers to this call, and
            # such a cycle would keep the callers' objects, such as a client.
            raise self._leave_replica(_error_of_command(response)) from None

    def _leave_replica(self, error: ResponseError) -> Exception:
        """Leave the server if an error says that it is no primary; return the error to raise."""
        code = self._code_of_replica(error)
        if code is None:
            return error
        self.disconnect()
        self._primary.leave()
        return ReadOnlyServer(code, f"{self.host}:{self.port} refuses: {code}")

    def _code_of_replica(self, error: ResponseError) -> str | None:
        """Return the code of an error if it says that another server is the primary."""
        if isinstance(error, ReadOnlyError):
            return "READONLY"
        if isinstance(error, MasterDownError):
            return "MASTERDOWN"
        message = str(error)
        code = message.split(" ", 1)[0]
        if code == UNBLOCKED or (code == NO_REPLICAS and self._sentinels is not None):
            return code
        nested = _NESTED.match(message)
        return nested[1] if nested else None


def _error_of_command(error: ResponseError) -> ResponseError:
    """Return the error of the command that a script has sent, or of another command itself."""
    quoted = _OF_SCRIPT.match(str(error))
    if quoted is None:
        return error
    parsed: ResponseError = DefaultParser.parse_error(quoted[1])  # type: ignore[no-untyped-call]
    return parsed


class PrimaryConnection(_ToPrimary):
    """A connection to the primary."""


class PrimaryTLSConnection(_ToPrimary, _TLSConnection):  # type: ignore[misc]
    """A connection to the primary with TLS."""


def of(redis: Redis) -> Primary:
    """Return what the connections of a client of ``bertq.redis.connection.connect`` know."""
    found: Primary = redis.connection_pool.connection_kwargs["primary"]
    return found
