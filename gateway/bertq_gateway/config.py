"""Settings of a gateway: the address of Redis, the accepted callers, and the limits."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bertq.errors import SettingsError
from bertq.protocol.encoding import Truncate
from bertq.redis import tls
from bertq.system import addresses
from bertq_gateway.batches.settings import BatchSettings

HOST, PORT = "127.0.0.1", 8125


@dataclass(frozen=True)
class Config:
    """The settings of a gateway.

    Attributes:
        redis_url: checked URL of Redis.
        host, port: address to listen on.
        api_keys: accepted keys; if empty, requests need no key, and any key is accepted.
        cors: origins of web pages that may send requests; none by default.
        aliases: additional names of models: alias -> name.
        max_body_bytes: maximum size of a request's body.
        max_batch: maximum inputs of a request.
        max_requests: maximum requests in progress.
        max_connections: maximum open connections.
        truncate: the end to cut from texts with too many tokens, or ``error`` to refuse them;
            for requests that do not choose.
        strict: whether to refuse requests with unknown fields.
        cache_rows: rows of small requests to keep in memory for each model; 0 for none.
        timeout_seconds: until a request times out.
        keep_alive_seconds: how long an idle connection stays open. It must be longer than proxies
            keep idle connections, or the gateway closes one that a proxy is about to use.
        drain_seconds: time that requests in progress have once the gateway is to stop.
        batches: where files and batches are stored, and their limits; None for no batches.
        certfile, keyfile: the certificate, and its key if that is in another file; with them the
            gateway speaks HTTPS.
    """

    redis_url: str
    host: str = HOST
    port: int = PORT
    api_keys: frozenset[str] = field(default=frozenset(), repr=False)
    cors: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    max_body_bytes: int = 32 * 1024 * 1024
    max_batch: int = 2048
    max_requests: int = 512
    max_connections: int = 2048
    truncate: Truncate = "right"
    strict: bool = False
    cache_rows: int = 0
    timeout_seconds: float = 60.0
    keep_alive_seconds: int = 90
    drain_seconds: int = 30
    batches: BatchSettings | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def __post_init__(self) -> None:
        if not self.api_keys and not addresses.is_loopback(self.host):
            raise SettingsError(
                f"--host {self.host} accepts other machines, and needs an API key: give "
                "--api-key-file or BERTQ_HTTP_API_KEYS, or leave out --host"
            )
        if not 0 < self.timeout_seconds < math.inf:
            raise SettingsError(
                f"--timeout is {self.timeout_seconds}: it must be a number of seconds above zero"
            )
        for origin in set(self.cors) - {"*", "null"}:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#\s]+", origin):
                raise SettingsError(
                    f"--cors is {origin!r}: it must be '*', or an origin without a path, such as "
                    "https://example.org"
                )
        if self.certfile:
            tls.check_own(self.certfile, self.keyfile, "--certfile ")
        elif self.keyfile:
            raise SettingsError("--keyfile is the key of a certificate: give --certfile too")


def parse_keys(text: str, source: str) -> frozenset[str]:
    """Return the API keys in a text, one per line or separated by commas.

    Args:
        text: the keys; empty lines, and lines that begin with #, are ignored.
        source: origin of the text, for the error.

    Raises:
        SettingsError: a key cannot be sent in a header, or is so short that it can be guessed.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    keys = {part.strip() for line in lines for part in line.split(",")} - {""}
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise SettingsError(
            f"{source} has a key with other characters than ASCII letters, digits and punctuation"
        )
    if any(len(key) < 16 for key in keys):
        raise SettingsError(f"{source} has a key of fewer than 16 characters, which can be guessed")
    return frozenset(keys)


def parse_aliases(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return additional names of models, from strings of the form ``NAME=MODEL``.

    Raises:
        SettingsError: a string does not have this form.
    """
    aliases = {}
    for pair in pairs:
        name, separator, model = pair.partition("=")
        if not (name and separator and model):
            raise SettingsError(f"--alias is {pair!r}: it must be NAME=MODEL")
        aliases[name] = model
    return aliases
