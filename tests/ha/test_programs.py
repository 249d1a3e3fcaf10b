"""Programs that run while the primary fails: the gateway, Flower and commands."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai

from benchmarks.replicas import Cluster
from bertq import BertClient
from bertq.redis.redis_url import redact
from bertq_cli.service.embedded_redis import free_port
from tests.conftest import clean_environ
from tests.programs import running
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import Start

SECRET = "mysecret"

#: Most seconds of a failover that has begun, and of what follows, on a busy machine.
RECOVERY_SECONDS = 60.0


def wait_for(http: httpx.Client, path: str, accept: Callable[[httpx.Response], object]) -> None:
    """Wait until the answer to GET is accepted."""

    def is_accepted() -> bool:
        with suppress(httpx.TransportError):
            return bool(accept(http.get(path)))
        return False

    eventually(is_accepted, RECOVERY_SECONDS)


class Callers:
    """Threads that send requests to a gateway, each one after another.

    Attributes:
        statuses: how many answers had which status.
        wrong: answers with other rows than expected.
    """

    def __init__(self, http: httpx.Client, count: int = 4) -> None:
        self.statuses = Counter[int]()
        self.wrong = list[str]()
        self._http = http
        self._must_stop = threading.Event()
        self._pool = ThreadPoolExecutor(count)
        self._done = [self._pool.submit(self._run, name) for name in range(count)]

    def _run(self, name: int) -> None:
        number = 0
        while not self._must_stop.is_set():
            texts = [f"{SECRET} {name} {n}" + " word" * (n % 8) for n in range(number, number + 3)]
            number += 3
            answer = embed(self._http, *texts)
            self.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                vectors = [item["embedding"] for item in answer.json()["data"]]
                if not np.array_equal(vectors, standins.rows(texts)):
                    self.wrong.append(answer.text)

    def wait_for_vectors(self) -> None:
        """Wait until each thread may have had further answers of 200."""
        wanted = self.statuses[200] + 10
        eventually(lambda: self.statuses[200] >= wanted, RECOVERY_SECONDS)

    def stop(self) -> None:
        """End the threads; raise their error."""
        self._must_stop.set()
        for one in self._done:
            one.result(90)


def embed(http: httpx.Client, *texts: str) -> httpx.Response:
    """Ask a gateway for vectors."""
    return http.post("/v1/embeddings", json={"model": "clock", "input": texts})


def batch_lines(count: int) -> list[dict[str, Any]]:
    """Return the requests of a batch."""
    return [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "clock", "input": f"{SECRET} {number}"},
        }
        for number in range(count)
    ]


def test_a_gateway(cluster: Cluster, start: Start, tmp_path: Path) -> None:
    start(20)
    port, log = free_port(), tmp_path / "gateway.log"
    options = ("--port", str(port), "--batch-dir", str(tmp_path / "batches"))
    url = f"http://127.0.0.1:{port}"
    with (
        running(cluster.url, log, "bertq_cli", "http", *options),
        httpx.Client(base_url=url, timeout=90) as http,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any") as batches,
    ):
        wait_for(http, "/readyz", lambda answer: answer.status_code == 200)
        callers = Callers(http)
        try:
            callers.wait_for_vectors()
            lines = "".join(f"{json.dumps(line)}\n" for line in batch_lines(600))
            file = batches.files.create(file=lines.encode(), purpose="batch")
            # No replica is promoted before the gateway has shown the outage.
            cluster.set_down_after(600_000)
            batch = batches.batches.create(
                input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
            )
            old = cluster.primary
            old.kill()
            wait_for(http, "/readyz", lambda answer: answer.status_code == 503)
            refused = embed(http, SECRET)
            assert refused.json()["error"]["code"] == "redis_unavailable"
            assert refused.headers["Retry-After"]
            assert http.get("/healthz").text == "ok"
            cluster.set_down_after(1000)
            cluster.wait_for_promotion(old)
            wait_for(http, "/readyz", lambda answer: answer.status_code == 200)
            callers.wait_for_vectors()
        finally:
            callers.stop()
        assert callers.statuses.keys() <= {200, 503}
        assert not callers.wrong
        eventually(
            lambda: batches.batches.retrieve(batch.id).status == "completed", RECOVERY_SECONDS
        )
        output = batches.batches.retrieve(batch.id).output_file_id
        assert output is not None
        answers = map(json.loads, batches.files.content(output).text.splitlines())
        for sent, answer in zip(batch_lines(600), answers, strict=True):
            assert answer["custom_id"] == sent["custom_id"]
            (item,) = answer["response"]["body"]["data"]
            assert item["embedding"] == standins.rows([sent["body"]["input"]])[0].tolist()
    assert "requests fail (redis_unavailable)" in log.read_text()
    assert SECRET not in log.read_text()
    assert "Traceback" not in log.read_text()


def test_flower_and_commands(cluster: Cluster, start: Start, tmp_path: Path) -> None:
    start(10, "-Q", "cpu0")
    port = free_port()
    flower = ("celery", "-A", "bertq", "flower", f"--port={port}")
    with (
        running(cluster.url, tmp_path / "flower.log", *flower, FLOWER_UNAUTHENTICATED_API="1"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):
        assert list_workers(cluster.url)
        assert run(cluster.url, "bertq_cli", "health", "--probe").startswith("healthy")
        inspected = run(cluster.url, "celery", "-A", "bertq", "inspect", "conf", "--json")
        (conf,) = json.loads(inspected).values()
        assert conf["broker_url"] == redact(cluster.url)
        report = run(cluster.url, "celery", "-A", "bertq", "report")
        assert f"broker_url: '{redact(cluster.url)}'" in report
        wait_for(http, "/api/workers?refresh=1", has_stats)
        # The page of the queues has a client of its own.
        wait_for(http, "/broker", has_queues)
        cluster.kill_primary()
        eventually(lambda: list_workers(cluster.url), RECOVERY_SECONDS)
        eventually(lambda: is_healthy(cluster.url), RECOVERY_SECONDS)
        wait_for(http, "/api/workers?refresh=1", has_stats)
        wait_for(http, "/broker", has_queues)


def test_the_remote_control_while_an_old_primary_is_back(
    cluster: Cluster, client: BertClient, start: Start
) -> None:
    start(10)
    ping = ("celery", "-A", "bertq", "inspect", "ping", "--timeout", "3")
    assert "pong" in run(cluster.url, *ping)
    old = cluster.freeze_primary()
    client.encode(["the worker has found the new one"])
    old.send(signal.SIGCONT)
    # Sentinels leave it a primary for some seconds; it must not get the answer.
    assert "pong" in run(cluster.url, *ping)


def test_a_drain_that_begins_in_a_failover(cluster: Cluster, tmp_path: Path) -> None:
    # A registration with the usual time to live does not expire in the failover.
    worker = standins.StandInWorker(cluster.url, tmp_path / "worker.log", 10)
    try:
        worker.wait_ready()
        cluster.replicate()
        cluster.primary.kill()
        assert "has ended after" in run(cluster.url, "bertq_cli", "drain", "*")
    finally:
        worker.kill()


def run(url: str, *arguments: str) -> str:
    """Return the output of a command; fail if the command does."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=clean_environ() | {"BERTQ_REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def list_workers(url: str) -> list[object]:
    """Return the workers in the output of ``bertq status``."""
    found: list[object] = json.loads(run(url, "bertq_cli", "status", "--json"))["workers"]
    return found


def is_healthy(url: str) -> bool:
    """Return whether a worker answers a sentence."""
    with suppress(AssertionError):
        return run(url, "bertq_cli", "health", "--probe").startswith("healthy")
    return False


def has_stats(answer: httpx.Response) -> bool:
    """Return whether Flower has reached a worker over the remote control."""
    return answer.status_code == 200 and '"transport": "sentinel"' in answer.text


def has_queues(answer: httpx.Response) -> bool:
    """Return whether Flower shows the queues."""
    return answer.status_code == 200 and "cpu0" in answer.text
