"""Checks whether the service's own HTTP servers answer on the loopback interface.

They connect directly: the variables for proxies (``HTTP_PROXY`` and others) do not apply.
"""

import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_HOST = "127.0.0.1"
_TIMEOUT_SECONDS = 5.0


def answers(port: int, path: str, text: bytes, *, uses_tls: bool = False) -> bool:
    """Return whether a server answers a request of the path with exactly this text."""
    return _get(port, path, len(text) + 1, uses_tls=uses_tls) == text


def is_web_server(port: int) -> bool:
    """Return whether a server answers a request, with any status, over HTTP or HTTPS."""
    return any(_get(port, "/", 1, uses_tls=uses_tls) is not None for uses_tls in (False, True))


def _get(port: int, path: str, max_bytes: int, *, uses_tls: bool) -> bytes | None:
    """Return the start of the answer's body; None if there is no answer."""
    connection: HTTPConnection
    if uses_tls:
        # The certificate names this machine as its clients do, not the loopback address.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection(_HOST, port, timeout=_TIMEOUT_SECONDS, context=context)
    else:
        connection = HTTPConnection(_HOST, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(max_bytes)
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
