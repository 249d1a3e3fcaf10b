"""The Redis of the soak test, which is restarted with and without its data."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

from redis import Redis, RedisError

from benchmarks.soak import processes
from bertq.protocol import keys
from bertq.redis.connection import connect
from bertq_cli.service.embedded_redis import Server, find_binary, free_port

#: Prefix of kombu's tables of bindings.
_BINDING_PREFIX = b"_kombu.binding"

#: Fields of a hash to name in a message.
_MAX_FIELDS = 4

#: Seconds for a start, and for the end after SIGTERM.
_START_SECONDS, _END_SECONDS = 60.0, 30.0


class RedisServer:
    """A server as ``bertq redis`` runs it.

    Attributes:
        url: address of its database.
        restarts: number of restarts by signal, and of those without data as ``wiped``.
    """

    def __init__(self, directory: Path, log: IO[bytes]) -> None:
        self._data = directory / "redis"
        self._config = directory / "redis.conf"
        self._server = Server("127.0.0.1", free_port(), self._data)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = self._server.url
        self.restarts: Counter[str] = Counter()

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it does not answer.
        """
        self._data.mkdir(exist_ok=True)
        self._config.write_text(self._server.configuration())
        command = [str(find_binary()), str(self._config)]
        self._process = processes.start_process(
            command, os.environ, self._log, orphan_signal=signal.SIGTERM
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        with connect(self.url) as redis:
            while not _answers(redis):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("Redis does not start: see redis.log")
                time.sleep(0.02)

    def restart(self, signal_name: str, without_data: bool) -> None:
        """End the server by a signal, and start it with or without its data."""
        self.stop(0.0 if signal_name == "SIGKILL" else _END_SECONDS)
        if without_data:
            shutil.rmtree(self._data)
            self.restarts["wiped"] += 1
        self.restarts[signal_name] += 1
        self.start()

    def stop(self, timeout_seconds: float = 0.0) -> None:
        """End the server."""
        if self._process is not None:
            processes.end_process(self._process, timeout_seconds)


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except (RedisError, OSError):
        return False


def find_leftovers(url: str) -> dict[str, str]:
    """Return the keys that should not be in an idle Redis, with their sizes.

    Queues, and the hash of unacknowledged messages, exist only while they have elements. All other
    keys expire, except the epoch.
    """
    unacked = (keys.UNACKED.encode(), keys.UNACKED_INDEX.encode())
    with connect(url) as redis:
        return {
            key.decode("utf-8", "replace"): _size(redis, key)
            for key in redis.scan_iter(count=1000)
            if key.decode() != keys.EPOCH
            and (redis.ttl(key) == -1 or redis.type(key) == b"list" or key in unacked)
        }


def count_bindings(url: str) -> int:
    """Return the number of queue bindings of kombu, which restarts must not increase."""
    with connect(url) as redis:
        names = list(redis.scan_iter(_BINDING_PREFIX + b".*", count=1000))
        sizes: list[Any] = [redis.scard(name) for name in names if redis.type(name) == b"set"]
        return sum(sizes)


def _size(redis: Any, key: bytes) -> str:
    kind: bytes = redis.type(key)
    if kind == b"hash":
        names: list[bytes] = redis.hkeys(key)
        fields = b", ".join(names[:_MAX_FIELDS]).decode("utf-8", "replace")
        return f"hash of {len(names)}: {fields}"
    sizes = {b"list": redis.llen, b"zset": redis.zcard, b"set": redis.scard, b"stream": redis.xlen}
    return f"{kind.decode()} of {sizes[kind](key)}" if kind in sizes else kind.decode()
