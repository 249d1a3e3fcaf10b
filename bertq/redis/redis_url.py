"""The URL of Redis: checking, completing and redacting it."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode, urlsplit, urlunsplit

from bertq.errors import SettingsError
from bertq.integers import as_int
from bertq.redis import sentinel, tls

HOST, PORT = "localhost", 6379
DEFAULT = f"redis://{HOST}:{PORT}/0"


def from_environ(environ: Mapping[str, str]) -> str:
    """Return the checked URL of ``BERTQ_REDIS_URL``, or the default.

    Raises:
        SettingsError: the variable does not hold a Redis URL.
    """
    return check(environ.get("BERTQ_REDIS_URL") or DEFAULT, "BERTQ_REDIS_URL")


def from_address(host: str, port: int) -> str:
    """Return the URL of database 0 of a server.

    Raises:
        SettingsError: the host is empty or not a host name, or the port is invalid.
    """
    if not isinstance(host, str) or not host or any(c in host for c in "/@?# "):
        raise SettingsError(f"ip is {host!r}: it must be a host name or an address")
    if not 0 < (as_int(port) or 0) < 65536:
        raise SettingsError(f"port is {port!r}: it must be a number from 1 to 65535")
    name = f"[{host}]" if ":" in host else quote(host)
    return f"redis://{name}:{port}/0"


def check(url: str, source: str = "redis_url") -> str:
    """Return the complete URL: with its database and, for TLS, with certificates required.

    Opens the certificate files that the URL names, to check their contents.

    Args:
        url: ``redis://`` or ``rediss://`` with optional user, password, port and database number;
            or the URL of ``bertq.redis.sentinel``.
        source: name of the setting, for the error.

    Raises:
        SettingsError: the URL is invalid; the message does not repeat the password.
    """
    shape = (
        "redis://[[user]:password@]host[:port][/database], rediss:// for TLS, or "
        "sentinel://[[user]:password@]host[:port],.../SERVICE[/database]"
    )
    if not isinstance(url, str):
        raise SettingsError(f"{source} is a {type(url).__name__}: it must be {shape}")
    scheme, separator, rest = url.partition("://")
    authority, *tail = re.split("([/?#])", rest, maxsplit=1)
    if "@" in "".join(tail) or not url.isprintable():
        # The message shows no part of the password.
        raise SettingsError(
            f"{source} cannot be read: in user and password write / as %2F, ? as %3F, # as %23, "
            "and unprintable characters as %XX; in sentinel_password also @ as %40, + as %2B"
        )
    login, at, address = authority.rpartition("@")
    if login and ":" not in login:
        raise SettingsError(
            f"{source} has a login without a colon: write redis://:PASSWORD@host, or "
            "redis://USER:@host for a user without a password"
        )
    if sentinel.is_url(url) and not re.search(r"[\s;\\]", address):
        return sentinel.check(
            f"{_quote_login(login)}{at}", "".join([scheme, separator, address, *tail]), source
        )
    if re.search(r"[\s;,\\]", address):
        raise SettingsError(f"{source} has an invalid host: it must be {shape}")
    try:
        parts = urlsplit("".join([scheme, separator, _quote_login(login), at, address, *tail]))
        has_valid_port = parts.port is None or parts.port > 0
    except ValueError:
        raise SettingsError(f"{source} has an invalid port: it must be {shape}") from None
    database = parts.path.strip("/") or "0"
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or not has_valid_port:
        raise SettingsError(f"{source} is {redact(url)!r}: it must be {shape}")
    if not (database.isascii() and database.isdigit()):
        raise SettingsError(f"{source} names the database {database!r}: it must be a number")
    query = dict(parse_qsl(parts.query))
    unknown = sorted(set(query) - set(tls.PARAMETERS if parts.scheme == "rediss" else ()))
    if unknown:
        raise SettingsError(
            f"{source} has the parameter {unknown[0]!r}: only rediss:// has parameters, "
            f"{', '.join(tls.PARAMETERS)}"
        )
    if parts.scheme == "rediss":
        query = tls.complete(query, source)
    return urlunsplit(
        (
            parts.scheme,
            parts.netloc,
            f"/{database}",
            urlencode(query, quote_via=quote, safe="/"),
            "",
        )
    )


def first_host(url: str) -> tuple[str | None, int]:
    """Return host and port of the server, or of the first Sentinel, of a checked URL."""
    if sentinel.is_url(url):
        return sentinel.parse(url).sentinels.addresses[0]
    parts = urlsplit(url)
    return parts.hostname, parts.port or PORT


def redact(url: str) -> str:
    """Return the URL with its password hidden and without parameters, for logs and messages.

    A login without a colon is hidden as a whole: most likely it is a password without one.
    """
    head, at, host = url.rpartition("@")
    host = re.split("[?#]", host, maxsplit=1)[0]
    if not at:
        return host
    scheme, separator, login = head.partition("://")
    if not (separator and scheme.isalpha()):
        return f"**@{host}"  # not a URL: any part of it may be the password
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}:**@{host}" if colon else f"{scheme}://**@{host}"


def _quote_login(login: str) -> str:
    """Return user and password with every special character as ``%XX``.

    Each library parses URLs in its own way. kombu, for example, splits a URL at ``;`` and logs the
    parts.
    """
    user, colon, password = login.partition(":")
    return colon.join(quote(unquote_to_bytes(part), safe="") for part in (user, password))
