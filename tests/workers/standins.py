"""Stand-in workers as processes, with a simulated model: ``benchmarks/standin.py``."""

import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.conftest import WorkerProcess, clean_environ

ROOT = Path(__file__).parents[2]
DIM = 4


def sentences(count: int) -> list[str]:
    """Distinct sentences of one to eight words: a client sends a repeated sentence once."""
    return [str(number) + " word" * (number % 8) for number in range(count)]


def rows(texts: list[str]) -> NDArray[np.float32]:
    """The rows of a stand-in worker for sentences: the number of tokens, and zeros."""
    expected = np.zeros((len(texts), DIM), np.float32)
    expected[:, 0] = [text.count(" ") + 3 for text in texts]
    return expected


class StandInWorker(WorkerProcess):
    """A worker that needs ``batch_ms`` for 256 rows.

    Attributes:
        program: the Python program that runs it.
    """

    program: Sequence[str] = ("-m", "benchmarks.standin")

    def __init__(self, url: str, log: Path, batch_ms: float, *options: str) -> None:
        self.log_path = log
        self.url = url
        environ = {**clean_environ(), "BERTQ_REDIS_URL": url}
        standin = [*self.program, "--batch-ms", str(batch_ms), "--dim", str(DIM)]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *standin, "worker", "-l", "INFO", *options],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class QuickWorker(StandInWorker):
    """A worker with short timeouts: ``tests/chaos/quick.py``."""

    program = ("-m", "tests.chaos.quick")


class PoisonWorker(StandInWorker):
    """A worker that some sentences kill, hang or fail: ``tests/chaos/poison.py``."""

    program = ("-m", "tests.chaos.poison")


def encoded_chunks(*workers: StandInWorker) -> list[str]:
    """The ids of the chunks that workers have logged as encoded."""
    return list(
        itertools.chain(*(re.findall(r"chunk (\S+): \d+ rows", worker.log) for worker in workers))
    )


#: Starts a worker that needs the given milliseconds for 256 rows, with options of Celery.
Start = Callable[..., StandInWorker]


def starter(
    kind: type[StandInWorker], url: str, directory: Path, *, until_ready: bool = True
) -> Iterator[Start]:
    """Start workers of a kind on a database; they end with the fixture that yields from this.

    Args:
        kind: the kind.
        url: URL of the database.
        directory: for their logs.
        until_ready: whether to wait until a worker has published its info.
    """
    workers: list[StandInWorker] = []

    def make(batch_ms: float, *options: str) -> StandInWorker:
        log = directory / f"{kind.__name__}-{len(workers)}.log"
        workers.append(kind(url, log, batch_ms, *options))
        if until_ready:
            workers[-1].wait_ready()
        return workers[-1]

    yield make
    for worker in workers:
        worker.kill()
