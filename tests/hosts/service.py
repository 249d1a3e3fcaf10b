"""Programs on the hosts: a server, stand-in workers, clients."""

import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from redis import Redis, RedisError

from tests.conftest import clean_environ
from tests.hosts.network import Host
from tests.waiting import eventually
from tests.workers.standins import DIM, ROOT, StandInWorker

PASSWORD = "between hosts"
_LOGIN = ":between%20hosts@"
_PORT = 6379


class Server:
    """``bertq redis`` on a host, and a port of this machine that is forwarded to it."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.address = f"{host.address}:{_PORT}"
        self._log = directory / "redis.log"
        options = ["--host", host.address, "--port", str(_PORT), "--data-dir", str(directory)]
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [*host.enter, sys.executable, "-m", "bertq_cli", "redis", *options],
                env={**clean_environ(), "BERTQ_REDIS_PASSWORD": PASSWORD},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._forwarded_port = listening.getsockname()[1]
            fd = listening.fileno()
            forward = ["-m", "tests.hosts.port_forward", str(fd), host.address, str(_PORT)]
            self._forward = subprocess.Popen(
                [*host.enter, sys.executable, *forward],
                cwd=ROOT,
                pass_fds=[fd],
                start_new_session=True,
            )

    def url(self, database: int) -> str:
        """The URL for hosts."""
        return f"redis://{_LOGIN}{self.address}/{database}"

    def forwarded_url(self, database: int) -> str:
        """The URL for the test."""
        return f"redis://{_LOGIN}127.0.0.1:{self._forwarded_port}/{database}"

    def wait_ready(self) -> None:
        """Wait until it answers."""
        with Redis.from_url(self.forwarded_url(0)) as redis:

            def answers() -> bool:
                assert self._server.poll() is None, self._log.read_text(errors="replace")
                with suppress(RedisError):
                    return bool(redis.ping())
                return False

            eventually(answers, 30)

    def close(self) -> None:
        """End it as an operator does."""
        for process in (self._forward, self._server):
            process.terminate()
        for process in (self._forward, self._server):
            try:
                process.wait(20)
            finally:
                process.kill()


class HostWorker(StandInWorker):
    """A worker on a host that needs ``batch_ms`` for 256 rows."""

    def __init__(
        self, host: Host, url: str, test_url: str, log: Path, batch_ms: float, *options: str
    ) -> None:
        self.log_path, self.url = log, test_url
        standin = [*self.program, "--batch-ms", str(batch_ms), "--dim", str(DIM)]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*host.enter, sys.executable, *standin, "worker", "-l", "INFO", *options],
                cwd=ROOT,
                env={**clean_environ(), "BERTQ_REDIS_URL": url},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class RemoteClient:
    """A client on a host, which runs one command at a time."""

    def __init__(self, host: Host, url: str, directory: Path) -> None:
        self._answer = directory / "answer.npy"
        self._errors = directory / "client.log"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*host.enter, sys.executable, "-m", "tests.hosts.client_program", url],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._wait_for(b"ready", 30)

    def encode(self, count: int) -> None:
        """Begin to encode ``count`` sentences."""
        self._send("encode", count)

    def vectors(self, seconds: float) -> NDArray[np.float32]:
        """Wait for the vectors, at most ``seconds``."""
        self._wait_for(b"done", seconds)
        vectors: NDArray[np.float32] = np.load(self._answer)
        return vectors

    def submit(self, count: int) -> str:
        """Submit a durable job of ``count`` sentences; return its id."""
        self._send("submit", count)
        self._wait_for(b"done", 30)
        return self._answer.read_text()

    def has_answered(self) -> bool:
        """Whether an answer has arrived that was not read yet."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def _send(self, command: str, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command} {count} {self._answer}\n".encode())
        self.process.stdin.flush()

    def _wait_for(self, word: bytes, seconds: float) -> None:
        stdout = self.process.stdout
        assert stdout is not None
        assert select.select([stdout], [], [], seconds)[0], (
            f"no answer within {seconds} s: {self._errors.read_text()}"
        )
        assert stdout.readline().strip() == word, self._errors.read_text()
