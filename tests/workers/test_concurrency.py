"""Many threads and many processes at once, on real workers: each row against its own sentence."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bertq import BertClient
from tests.conftest import StartWorker, clean_environ
from tests.waiting import eventually

THREADS, PROCESSES, REQUESTS = 16, 4, 6

SCRIPT = """
import sys
import numpy as np
from bertq import BertClient

url, number, target = sys.argv[1:]
with BertClient(redis_url=url, timeout=90) as client:
    futures = [
        client.encode_async([f"the {number} of {r} {row}" for row in range(1, 2 + 60 * r)])
        for r in range(int(sys.stdin.read()))
    ]
    np.save(target, np.concatenate([future.result() for future in futures]))
"""


def texts_of(number: str, request: int) -> list[str]:
    return [f"the {number} of {request} {row}" for row in range(1, 2 + 60 * request)]


@pytest.fixture(scope="module")
def url(module_redis_url: str, tiny_model: Path, module_start_worker: StartWorker) -> str:
    """A database with two workers on the shared queues."""
    started = [
        module_start_worker(module_redis_url, tiny_model, "-Q", queue, "--threads", "1")
        for queue in ("cpu0", "cpu1")
    ]
    for worker in started:
        worker.wait_ready()
    return module_redis_url


def test_each_row_belongs_to_its_sentence(url: str, tiny_model: Path, tmp_path: Path) -> None:
    from bertq_bert import load_encoder

    encoder = load_encoder(tiny_model)

    def expected(number: str) -> NDArray[np.float32]:
        return np.concatenate([encoder.encode(texts_of(number, r)) for r in range(REQUESTS)])

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, url, f"p{number}", str(tmp_path / f"p{number}.npy")],
            env=clean_environ(),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    with BertClient(redis_url=url, timeout=90) as client, ThreadPoolExecutor(THREADS) as pool:

        def work(number: int) -> NDArray[np.float32]:
            return np.concatenate(
                [client.encode(texts_of(f"t{number}", request)) for request in range(REQUESTS)]
            )

        threads = [pool.submit(work, number) for number in range(THREADS)]
        for process in processes:
            _, error = process.communicate(str(REQUESTS), timeout=100)
            assert process.returncode == 0, error
        for number, future in enumerate(threads):
            rows = expected(f"t{number}")
            np.testing.assert_allclose(future.result(100), rows, rtol=0, atol=5e-6)
    for number in range(PROCESSES):
        rows = np.load(tmp_path / f"p{number}.npy")
        np.testing.assert_allclose(rows, expected(f"p{number}"), rtol=0, atol=5e-6)
    with BertClient(redis_url=url) as client:
        assert len(client.server_status["workers"]) == 2
        eventually(lambda: client.server_status["unacked"] == 0)
