"""The soak's own Redis: ended, started again on its data, and started again without them."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

from redis import Redis, RedisError

from benchmarks.soak import child
from bertq.protocol import keys
from bertq.redis.connection import connect
from bertq_cli.service.embedded_redis import Server, find_binary, free_port

#: What kombu keeps of queues: keys that begin so.
_BINDINGS = b"_kombu.binding"

#: Fields of a hash that are named.
_NAMED = 4

#: Seconds that a start may take, and the end after SIGTERM.
_START, _END = 60.0, 30.0


class Store:
    """A server as ``bertq redis`` runs it.

    Attributes:
        url: of its database.
        restarts: how often it was ended, by signal, and how often its data went.
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
        """The server's process."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it does not.
        """
        self._data.mkdir(exist_ok=True)
        self._config.write_text(self._server.configuration())
        command = [str(find_binary()), str(self._config)]
        self._process = child.start(
            command, os.environ, self._log, on_orphaned=signal.SIGTERM
        )  # fmt: skip
        give_up = time.monotonic() + _START
        with connect(self.url) as redis:
            while not _answers(redis):
                if self._process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError("Redis does not start: see redis.log")
                time.sleep(0.02)

    def restart(self, way: str, wipe: bool) -> None:
        """End it by SIGKILL or SIGTERM, and start it again, with its data or without."""
        self.stop(0.0 if way == "SIGKILL" else _END)
        if wipe:
            shutil.rmtree(self._data)
            self.restarts["wiped"] += 1
        self.restarts[way] += 1
        self.start()

    def stop(self, retry: float = 0.0) -> None:
        """End it."""
        if self._process is not None:
            child.end(self._process, retry)


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except (RedisError, OSError):
        return False


def left_over(url: str) -> dict[str, str]:
    """Return what should not be in an idle Redis: names, and what is wrong with each.

    Everything of bertq has a time to live but for the epoch, and the bindings are kombu's. A queue,
    and the hash of what workers hold, are there only while something is in them.
    """
    with connect(url) as redis:
        return {
            key.decode("utf-8", "replace"): _size(redis, key)
            for key in redis.scan_iter(count=1000)
            if key.decode() != keys.EPOCH and not key.startswith(_BINDINGS) and redis.ttl(key) == -1
        }


def bindings(url: str) -> int:
    """Return how many bindings of queues kombu keeps for ever: as many whatever was restarted."""
    with connect(url) as redis:
        names = list(redis.scan_iter(_BINDINGS + b".*", count=1000))
        sizes: list[Any] = [redis.scard(name) for name in names if redis.type(name) == b"set"]
        return sum(sizes)


def _size(redis: Any, key: bytes) -> str:
    kind: bytes = redis.type(key)
    if kind == b"hash":
        names: list[bytes] = redis.hkeys(key)
        some = b", ".join(names[:_NAMED]).decode("utf-8", "replace")
        return f"hash of {len(names)}: {some}"
    sizes = {b"list": redis.llen, b"zset": redis.zcard, b"set": redis.scard, b"stream": redis.xlen}
    return f"{kind.decode()} of {sizes[kind](key)}" if kind in sizes else kind.decode()
