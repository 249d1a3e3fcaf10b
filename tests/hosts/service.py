"""What runs on the hosts: a server, workers whose model is a clock, clients."""

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
from tests.workers.clocks import DIM, ROOT, ClockWorker

PASSWORD = "between hosts"
_LOGIN = ":between%20hosts@"
_PORT = 6379


class Server:
    """``bertq redis`` on a host, and a window through which the test sees it."""

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
            self._window_port = listening.getsockname()[1]
            fd = listening.fileno()
            window = ["-m", "tests.hosts.window", str(fd), host.address, str(_PORT)]
            self._window = subprocess.Popen(
                [*host.enter, sys.executable, *window],
                cwd=ROOT,
                pass_fds=[fd],
                start_new_session=True,
            )

    def url(self, database: int) -> str:
        """The URL for hosts."""
        return f"redis://{_LOGIN}{self.address}/{database}"

    def seen(self, database: int) -> str:
        """The URL for the test."""
        return f"redis://{_LOGIN}127.0.0.1:{self._window_port}/{database}"

    def wait_ready(self) -> None:
        """Wait until it answers."""
        with Redis.from_url(self.seen(0)) as redis:

            def answers() -> bool:
                assert self._server.poll() is None, self._log.read_text(errors="replace")
                with suppress(RedisError):
                    return bool(redis.ping())
                return False

            eventually(answers, 30)

    def close(self) -> None:
        """End it as an operator does."""
        for process in (self._window, self._server):
            process.terminate()
        for process in (self._window, self._server):
            try:
                process.wait(20)
            finally:
                process.kill()


class HostWorker(ClockWorker):
    """A worker on a host that needs ``batch_ms`` for 256 rows."""

    def __init__(
        self, host: Host, url: str, seen: str, log: Path, batch_ms: float, *options: str
    ) -> None:
        self.log_path, self.url = log, seen
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


class Asker:
    """A client on a host; it does one thing at a time."""

    def __init__(self, host: Host, url: str, directory: Path) -> None:
        self._answer = directory / "answer.npy"
        self._errors = directory / "asker.log"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*host.enter, sys.executable, "-m", "tests.hosts.asker", url],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._wait_for(b"ready", 30)

    def encode(self, count: int) -> None:
        """Begin to encode so many sentences."""
        self._tell("encode", count)

    def vectors(self, seconds: float) -> NDArray[np.float32]:
        """Wait for their vectors, for so long."""
        self._wait_for(b"done", seconds)
        vectors: NDArray[np.float32] = np.load(self._answer)
        return vectors

    def submit(self, count: int) -> str:
        """Leave a job with so many sentences; return its id."""
        self._tell("submit", count)
        self._wait_for(b"done", 30)
        return self._answer.read_text()

    def has_answered(self) -> bool:
        """Whether there is an answer that was not waited for."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def _tell(self, what: str, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {count} {self._answer}\n".encode())
        self.process.stdin.flush()

    def _wait_for(self, word: bytes, seconds: float) -> None:
        stdout = self.process.stdout
        assert stdout is not None
        assert select.select([stdout], [], [], seconds)[0], (
            f"no answer within {seconds} s: {self._errors.read_text()}"
        )
        assert stdout.readline().strip() == word, self._errors.read_text()
