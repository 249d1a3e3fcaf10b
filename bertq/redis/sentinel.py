"""Redis Sentinel: the URL of a service, and the address of its primary.

``sentinel://[user:password@]host1:26379,host2:26379/SERVICE/DB`` names Sentinels, the service that
they watch, and the number of the database. User and password are those of Redis. Parameters that
begin with ``sentinel_`` are for the Sentinels.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from bertq.errors import SettingsError
from bertq.redis import tls

PORT = 26379

#: The schemes, without TLS and with it.
PLAIN, WITH_TLS = "sentinel", "sentinels"

SHAPE = (
    "sentinel://[[user]:password@]host[:port][,host[:port]...]/SERVICE[/database] or sentinels:// "
    "for TLS"
)

_PREFIX = "sentinel_"

#: Parameters for the Sentinels: a login, and whether they have TLS, by default as Redis.
_LOGIN = (f"{_PREFIX}username", f"{_PREFIX}password")
_HAS_TLS = f"{_PREFIX}tls"
_TLS_PARAMETERS = tuple(_PREFIX + name for name in tls.PARAMETERS)

_SERVICE = re.compile(r"[A-Za-z0-9._-]+")

#: Maximum seconds to wait for one Sentinel; there are others.
_TIMEOUT_SECONDS = 1.0


class SentinelError(RedisConnectionError):
    """No Sentinel names a primary.

    Attributes:
        is_final: whether asking again is useless.
    """

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Sentinels:
    """The Sentinels of a service.

    Attributes:
        addresses: their hosts and ports.
        service: the name by which they know the service.
        options: further arguments of a connection to them, with a password.
    """

    def __init__(
        self, addresses: tuple[tuple[str, int], ...], service: str, options: Mapping[str, Any]
    ) -> None:
        self.addresses = addresses
        self.service = service
        self.options = dict(options)
        self._first = 0  # the one to ask first

    def __repr__(self) -> str:
        return f"<Sentinels {self}>"

    def __str__(self) -> str:
        return f"{_join(self.addresses)}/{self.service}"

    def primaries(self) -> Iterator[tuple[str, int]]:
        """Yield the address of the primary as the Sentinels know it.

        There is a second address only if a Sentinel does not know of a failover yet. The caller
        asks for it if the first one is not that of a primary.

        Raises:
            SentinelError: none of them names an address.
        """
        yielded: set[tuple[str, int]] = set()
        problems: list[str] = []
        can_change = False
        numbers = range(len(self.addresses))
        for number in sorted(numbers, key=lambda number: number != self._first):
            host, port = self.addresses[number]
            try:
                address = self._ask(host, port)
            except (RedisError, OSError) as error:
                problem, is_final = _explain(error, has_login="password" in self.options)
                can_change |= not is_final
                problems.append(f"{host}:{port} {problem}")
                continue
            if address is None:
                problems.append(f"{host}:{port} does not know the service {self.service!r}")
            elif address not in yielded:
                self._first = number
                yielded.add(address)
                yield address
                # Otherwise each new connection would try the old primary first.
                self._first = (number + 1) % len(self.addresses)
        if not yielded:
            reason = f"no Sentinel names a primary: {'; '.join(problems)}"
            raise SentinelError(reason, is_final=not can_change)

    def _ask(self, host: str, port: int) -> tuple[str, int] | None:
        with Redis(
            host=host,
            port=port,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            **self.options,
        ) as redis:
            found: Any = redis.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return None if found is None else (found[0].decode(), int(found[1]))


def _explain(error: Exception, *, has_login: bool) -> tuple[str, bool]:
    """Return why a Sentinel has not answered, and whether asking again is useless."""
    if isinstance(error, AuthenticationError):
        if has_login:
            return f"refuses the login: check {' and '.join(_LOGIN)} in the URL", True
        return "requires a login: add ?sentinel_password=PASSWORD to the URL", True
    if isinstance(error, NoPermissionError):
        return "refuses: its user needs the right +sentinel|get-master-addr-by-name", True
    if untrusted_reason := tls.untrusted_reason(error):
        return untrusted_reason, True
    if isinstance(error, ResponseError):
        return "is no Sentinel: check the port", True
    return f"does not answer ({str(error).rstrip('.') or type(error).__name__})", False


@dataclass(frozen=True)
class SentinelAddress:
    """The parts of a URL.

    Attributes:
        sentinels: name the primary.
        database: number of the database.
        username, password: for Redis; None without a login.
        tls: the parameters of TLS to Redis; None without TLS.
    """

    sentinels: Sentinels
    database: int
    username: str | None
    password: str | None = field(repr=False)
    tls: Mapping[str, str] | None

    @property
    def login(self) -> dict[str, str]:
        """User and password, as arguments of a connection."""
        given = {"username": self.username, "password": self.password}
        return {name: value for name, value in given.items() if value}

    @property
    def kombu_url(self) -> str:
        """The URL of the first Sentinel in the form of kombu and Flower."""
        login = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}"
        at = f"{login}@" if self.login else ""
        return f"{PLAIN}://{at}{_join(self.sentinels.addresses[:1])}/{self.database}"


def is_url(url: str) -> bool:
    """Return whether a URL names Sentinels."""
    return url.partition("://")[0] in (PLAIN, WITH_TLS)


def parse(url: str) -> SentinelAddress:
    """Return the parts of a URL that ``check`` has returned."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = (unquote(part) for part in login.partition(":"))
    _, service, database = parts.path.split("/")
    query = dict(parse_qsl(parts.query))
    options: dict[str, Any] = {
        name.removeprefix(_PREFIX): value for name, value in query.items() if name in _LOGIN
    }
    if query[_HAS_TLS] == "yes":
        options["ssl"] = True
        options |= {
            name.removeprefix(_PREFIX): value
            for name, value in query.items()
            if name in _TLS_PARAMETERS
        }
    return SentinelAddress(
        Sentinels(tuple(map(_address, hosts.split(","))), service, options),
        int(database),
        user or None,
        password or None,
        {name: query[name] for name in tls.PARAMETERS if name in query}
        if parts.scheme == WITH_TLS
        else None,
    )


def check(login: str, url: str, source: str) -> str:
    """Return the complete URL: with ports, database and all parameters.

    Args:
        login: user and password, quoted, with an ``@``; or empty.
        url: the URL without them.
        source: name of the setting, for the error.

    Raises:
        SettingsError: the URL is invalid; the message does not repeat a password.
    """
    parts = urlsplit(url)
    where = f"{source} is {parts.scheme}://{'**@' if login else ''}{parts.netloc}{parts.path}"
    try:
        hosts = [_address(host) for host in parts.netloc.split(",")]
    except ValueError:
        raise SettingsError(f"{where}: it must be {SHAPE}") from None
    service, _, database = parts.path.strip("/").partition("/")
    database = database or "0"
    if not _SERVICE.fullmatch(service):
        raise SettingsError(f"{where}, without the name of the service: it must be {SHAPE}")
    if not (database.isascii() and database.isdigit()):
        raise SettingsError(f"{source} names the database {database!r}: it must be a number")
    query = _complete(dict(parse_qsl(parts.query)), parts.scheme == WITH_TLS, source)
    parameters = urlencode(query, quote_via=quote, safe="/")
    return f"{parts.scheme}://{login}{_join(hosts)}/{service}/{database}?{parameters}"


def _complete(query: dict[str, str], has_tls: bool, source: str) -> dict[str, str]:
    """Return the parameters of a URL, with those of TLS; check the files."""
    sentinels_have_tls = query.pop(_HAS_TLS, "yes" if has_tls else "no")
    if sentinels_have_tls not in ("yes", "no"):
        raise SettingsError(f"{source} has {_HAS_TLS}={sentinels_have_tls}: it is yes or no")
    allowed = {*_LOGIN}
    own, theirs = dict[str, str](), dict[str, str]()
    if has_tls:
        allowed |= {*tls.PARAMETERS}
        own = tls.complete({name: query[name] for name in tls.PARAMETERS if name in query}, source)
    if sentinels_have_tls == "yes":
        allowed |= {*_TLS_PARAMETERS}
        given = {name: query[_PREFIX + name] for name in tls.PARAMETERS if _PREFIX + name in query}
        theirs = tls.complete(given or own, source)
    unknown = sorted(query.keys() - allowed)
    if unknown:
        raise SettingsError(
            f"{source} has the parameter {unknown[0]!r}: with {PLAIN}:// there are "
            f"{', '.join((*_LOGIN, _HAS_TLS))}; with {WITH_TLS}:// also "
            f"{', '.join(tls.PARAMETERS)}, and the same with {_PREFIX} before the name"
        )
    login = {name: query[name] for name in _LOGIN if name in query}
    others = {_PREFIX + name: value for name, value in theirs.items()}
    return {**own, **login, _HAS_TLS: sentinels_have_tls, **others}


def _join(addresses: Iterable[tuple[str, int]]) -> str:
    """Return addresses as they are in a URL."""
    return ",".join(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses
    )


def _address(host: str) -> tuple[str, int]:
    """Return host and port of one Sentinel; ValueError if they are invalid."""
    parts = urlsplit(f"{PLAIN}://{host}")
    if not parts.hostname or parts.port == 0 or parts.netloc != host:
        raise ValueError(host)
    return parts.hostname, parts.port or PORT
