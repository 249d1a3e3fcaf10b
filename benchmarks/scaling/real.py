"""The same load on real workers with a simulated model, to check the simulation."""

import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.scaling.load import Arrival
from benchmarks.soak import processes
from benchmarks.soak.redis_server import RedisServer
from bertq.redis.connection import connect
from bertq.state import worker_info
from bertq_client import BertClient

#: Numbers in a row: few, so that the processor is no limit.
_DIM = 16

_START_SECONDS, _ANSWER_SECONDS = 60.0, 300.0


def measure(
    arrivals: Sequence[Arrival], workers: int, batch_seconds: float
) -> dict[str, list[tuple[int, float]]]:
    """Send a load to workers; return the seconds from each request to its answer, by kind.

    Args:
        arrivals: the requests.
        workers: number of workers.
        batch_seconds: time that a worker takes for 256 sentences.

    Raises:
        RuntimeError: the workers did not start.
        BertqError: a request failed.
    """
    with TemporaryDirectory() as folder, ExitStack() as stack:
        log = stack.enter_context((Path(folder) / "log").open("wb"))
        redis = RedisServer(Path(folder), log)
        stack.callback(redis.stop)
        redis.start()
        environ = processes.clean_environment(redis.url)
        for number in range(workers):
            command = [
                sys.executable, "-m", "benchmarks.standin", "--batch-ms", str(1000 * batch_seconds),
                "--dim", str(_DIM), "worker", "--concurrency", "1", "-Q", f"cpu{number}",
            ]  # fmt: skip
            worker = processes.start_process(command, environ, log)
            stack.callback(processes.end_process, worker)
        _wait_for_workers(redis.url, workers)
        with BertClient(redis_url=redis.url, timeout=_ANSWER_SECONDS) as client:
            client.encode(["connects"])
            return _send(client, arrivals)


def _wait_for_workers(url: str, count: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with connect(url) as redis:
        while len(worker_info.read(redis)) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{count} workers did not start within {_START_SECONDS:g} s")
            time.sleep(0.1)


def _send(client: BertClient, arrivals: Sequence[Arrival]) -> dict[str, list[tuple[int, float]]]:
    texts = {
        arrival.sentences: [f"sentence {number}" for number in range(arrival.sentences)]
        for arrival in arrivals
    }
    found: dict[str, list[tuple[int, float]]] = {}
    errors: list[BaseException] = []
    lock = threading.Lock()
    begin = time.monotonic()

    def note(arrival: Arrival, future: "Future[Any]") -> None:
        error = future.exception()
        seconds = time.monotonic() - begin - arrival.at_seconds
        with lock:
            if error is not None:
                errors.append(error)
            found.setdefault(arrival.kind, []).append((arrival.sentences, seconds))

    futures = []
    for arrival in arrivals:
        time.sleep(max(0.0, begin + arrival.at_seconds - time.monotonic()))
        future = client.encode_async(texts[arrival.sentences])
        future.add_done_callback(partial(note, arrival))
        futures.append(future)
    for future in futures:
        future.exception(_ANSWER_SECONDS)
    if errors:
        raise errors[0]
    return found
