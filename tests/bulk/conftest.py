"""A stub worker, a client, and files of sentences."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from bertq import BertClient
from bertq.state import worker_info
from tests.cli.runs import Run
from tests.client.stub import Stub, info, stub_worker
from tests.waiting import eventually

Write = Callable[..., Path]
Encode = Callable[..., Run]


def sentences(count: int) -> list[str]:
    """Distinct sentences."""
    return [f"{number} {'w' * (number % 7)}." for number in range(count)]


def manifest(output: Path) -> Any:
    """Read the manifest of an output."""
    return json.loads(output.with_name(f"{output.name}.json").read_text())


def rows_kept(output: Path) -> int:
    """Return the number of rows that a run would keep if it were killed now."""
    try:
        return int(manifest(output)["position"]["rows"])
    except FileNotFoundError:
        return 0


def names(directory: Path) -> list[str]:
    """The files of a directory."""
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def redis_url(module_redis_url: str) -> str:
    """The URL of a database for all tests of a module: starting a stub takes a second."""
    return module_redis_url


@pytest.fixture(scope="module")
def module_stub(module_redis_url: str) -> Iterator[Stub]:
    """A running stub worker."""
    with stub_worker(module_redis_url) as running:
        yield running


def wait_until_idle(redis: Redis) -> None:
    """Wait until the stub worker has dropped the chunks of failed and cancelled requests."""
    eventually(lambda: not redis.exists("bertq", "bertq.small", "unacked"))


@pytest.fixture
def stub(module_stub: Stub, redis: Redis) -> Iterator[Stub]:
    """The stub worker, without the records of other tests."""
    worker_info.publish(redis, info(["bertq", "bertq.small"]))  # it expires
    wait_until_idle(redis)
    module_stub.chunks.clear()
    module_stub.options.clear()
    module_stub.fingerprints = ["f"]
    yield module_stub
    module_stub.gate.set()


@pytest.fixture
def client(redis_url: str) -> Iterator[BertClient]:
    """A client that is closed after the test."""
    with BertClient(redis_url=redis_url, timeout=30) as made:
        yield made


@pytest.fixture
def corpus(tmp_path: Path) -> Write:
    """Writes lines to a file."""

    def write(lines: list[str], name: str = "corpus.txt") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
        return path

    return write


@pytest.fixture
def slow(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """A stub that takes 50 ms for a chunk."""
    quick = stub.encode

    def encode(*arguments: Any) -> Any:
        time.sleep(0.05)
        return quick(*arguments)

    monkeypatch.setattr(stub, "encode", encode)
    return stub


@pytest.fixture
def encode(redis_url: str, tmp_path: Path) -> Iterator[Encode]:
    """Starts ``bertq encode``; it ends with the test."""
    runs: list[Run] = []

    def start(*arguments: str | Path) -> Run:
        runs.append(Run(tmp_path, "encode", *map(str, arguments), "-q", BERTQ_REDIS_URL=redis_url))
        return runs[-1]

    yield start
    for run in runs:
        run.end()
