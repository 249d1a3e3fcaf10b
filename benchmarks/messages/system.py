"""The measured systems: a Redis, a worker and client processes of bertq or of stock Celery."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis

from benchmarks.client_process import TimedAnswer, read_answer
from benchmarks.measuring import cpu_seconds
from benchmarks.messages.cost import Reading
from benchmarks.soak import processes
from benchmarks.soak.redis_server import RedisServer
from bertq.redis.connection import connect

_FOLDER = Path(__file__).resolve().parent

#: The packages of a checkout.
_PACKAGES = ("", "bert", "cli", "client", "gateway", "workers")

#: Seconds that a worker has for its end.
_END_SECONDS = 10.0


@dataclass(frozen=True)
class Variant:
    """A system to measure.

    Attributes:
        name: its name on the page.
        pool: Celery's pool of a worker of stock Celery; None for bertq.
        checkout: the folder of bertq's code.
    """

    name: str
    pool: str | None = None
    checkout: Path = processes.ROOT

    @property
    def can_use_threads(self) -> bool:
        """Whether several threads of a client may wait for results; not with stock Celery."""
        return self.pool is None

    def worker_command(self) -> list[str]:
        """Return the command that starts the worker."""
        options = ["worker", "-l", "ERROR"]
        if self.pool is not None:
            return [sys.executable, "-m", "celery", "-q", "-A", "stock_app", *options,
                    "--pool", self.pool]  # fmt: skip
        model = ["--batch-ms", "0", "--dim", "768"]
        return [sys.executable, "-m", "benchmarks.standin", *model, *options,
                "--concurrency", "1", "-Q", "cpu0"]  # fmt: skip

    def environ(self, url: str) -> dict[str, str]:
        """Return the environment of the worker and the clients."""
        paths = [str(_FOLDER)]
        if self.pool is None:
            paths = [str(self.checkout / package) for package in _PACKAGES]
        return {
            **processes.clean_environment(url),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "",  # a profiler would cut long lines
            "PYTHONSAFEPATH": "1",  # not the code of the current folder
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
            "BERTQ_MAX_SEQ_LEN": "40",
            "STOCK_CELERY_URL": url,
        }


class System:
    """The processes of a variant; ``with`` starts and ends them.

    Attributes:
        variant: the variant.
        url: address of its Redis.
    """

    def __init__(self, variant: Variant, client_processes: int) -> None:
        self.variant = variant
        self.url = ""
        self._client_processes = client_processes
        self._clients: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> "System":
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="bertq-messages-")))
            log = stack.enter_context((folder / "log").open("w+b"))
            server = RedisServer(folder, log)
            stack.callback(server.stop)
            server.start()
            self.url = server.url
            self._redis: Redis = stack.enter_context(connect(server.url))
            environ = self.variant.environ(server.url)
            self._worker = processes.start_process(self.variant.worker_command(), environ, log)
            stack.callback(processes.end_process, self._worker, _END_SECONDS)
            kind = "bertq" if self.variant.pool is None else "celery"
            command = [sys.executable, str(_FOLDER / "sender.py"), kind, self.url]
            for _ in range(self._client_processes):
                client = processes.start_process(command, environ, log, has_pipes=True)
                stack.callback(processes.end_process, client, 0.0)
                self._clients.append(client)
            for client in self._clients:
                read_answer(client, folder / "log")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, clients: int, threads: int, begin: float, end: float) -> None:
        """Have threads of some client processes send from one moment to another."""
        line = json.dumps({"threads": threads, "begin": begin, "end": end}) + "\n"
        for client in self._clients[:clients]:
            assert client.stdin is not None
            client.stdin.write(line.encode())
            client.stdin.flush()

    def collect(self, clients: int) -> list[TimedAnswer]:
        """Return the answers of the client processes that have sent."""
        return [answer for client in self._clients[:clients] for answer in read_answer(client)]

    def read(self) -> Reading:
        """Read all counters."""
        stats: Any = self._redis.info("commandstats")
        cpu: Any = self._redis.info("cpu")
        seconds = {
            "worker": cpu_seconds(_descendants(self._worker.pid)),
            "client": cpu_seconds([client.pid for client in self._clients]),
            "redis": cpu["used_cpu_sys"] + cpu["used_cpu_user"],
        }
        return Reading(time.monotonic(), seconds, sum(item["calls"] for item in stats.values()))


def _descendants(pid: int) -> list[int]:
    """Return a process and all processes that it has started; Linux only."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").iterdir():
            found += map(int, (tasks / "children").read_text().split())
    return found
