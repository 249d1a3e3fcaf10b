"""A worker's metrics, as Prometheus scrapes them, against what was encoded."""

import json
import math
import os
import re
import signal
import socket
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY
from redis import Redis

from bertq import BertClient
from bertq.errors import RemoteError, SentenceTooLong
from bertq.protocol import keys
from bertq.state import jobs, worker_info
from bertq_cli.service.embedded_redis import free_port
from bertq_client.outbox.message import MessageBuilder
from bertq_workers.observability import metrics
from bertq_workers.observability.meter import Meter
from tests.chaos.poison import FAIL, HANG
from tests.conftest import StartServer, StartWorker, WorkerProcess
from tests.docs.tables import DOCS
from tests.waiting import eventually
from tests.workers.conftest import Refuse
from tests.workers.scrapes import Scrape, scrape_after_results
from tests.workers.standins import DIM, StandInWorker, Start, sentences, starter

SECRET = "xylophone"

#: Every metric of bertq, without its prefix and suffix.
NAMES = {
    "sentences", "tokens", "truncated_sentences", "chunks", "failures", "rejected_chunks",
    "redelivered_chunks", "batches", "batch_rows", "batch_fill", "queue_wait_seconds",
    "compute_seconds", "store_seconds", "lanes", "held_chunks", "batch_seconds_running",
    "queue_length", "waiting_seconds", "device_memory_bytes", "device_memory_peak_bytes", "info",
}  # fmt: skip

#: Those of a worker that compiles.
COMPILE_NAMES = {"compiled_shapes", "compile_seconds"}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def real_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def real_worker(
    module_redis_url: str, tiny_model: Path, module_start_worker: StartWorker, real_port: int
) -> WorkerProcess:
    """A worker with a real model, for all tests of this module."""
    options = metrics_options(real_port, "--threads", "1")
    return module_start_worker(module_redis_url, tiny_model, *options).wait_ready()


def metrics_options(port: int, *options: str) -> list[str]:
    """Options of a worker with metrics."""
    return ["-Q", "cpu0", "--metrics-port", str(port), *options]


def push(redis: Redis, texts: list[Any], *, again: bool = False, **headers: Any) -> None:
    """Send a chunk by hand."""
    task_id = keys.task_id(uuid.uuid4().hex, 0)
    message = json.loads(MessageBuilder("me").build(task_id, texts, "bertq"))
    message["headers"] |= headers
    message["properties"]["delivery_info"]["redelivered"] = again
    job, sent = task_id.rpartition("-")[0], json.dumps(message)
    jobs.create(redis, job, client="me", queue="bertq", rows=1, chunks=1, message=sent)


def test_metrics_count_what_was_encoded(
    start: Start, client: BertClient, redis: Redis, port: int
) -> None:
    worker = start(50, *metrics_options(port, "--max-batch-size", "100", "-n", "w@h"))
    texts = [f"{SECRET} {text}" for text in sentences(250)]
    began = time.monotonic()
    push(redis, texts)
    scrape_after_results(port, 1, worker)
    for text in ("one", "one two"):
        client.encode([text])
    took = time.monotonic() - began
    found = scrape_after_results(port, 3, worker)
    assert found.names >= {f"bertq_worker_{name}" for name in NAMES}
    assert (found["sentences_total"], found["chunks_total"]) == (252, 3)
    assert found["tokens_total"] == sum(text.count(" ") + 3 for text in [*texts, "one", "one two"])
    assert (found["failures_total"], found["redelivered_chunks_total"]) == (0, 0)
    # 100, 100 and 50 rows, and the two alone.
    assert found["batches_total"] == found["batch_rows_count"] == found["batch_fill_count"] == 5
    assert found["batch_rows_sum"] == 252
    assert found.get("batch_rows_bucket", le="1.0") == 2
    assert found.get("batch_rows_bucket", le="64.0") == 3
    assert found["batch_fill_sum"] == pytest.approx(2.52)
    assert found.get("batch_fill_bucket", le="0.01") == 2
    assert found.get("batch_fill_bucket", le="0.5") == 3
    assert found["queue_wait_seconds_count"] == 3
    assert 0 < found["queue_wait_seconds_sum"] < took
    assert found["compute_seconds_count"] == 5
    assert 0.9 * 252 * 50e-3 / 256 < found["compute_seconds_sum"] < took
    assert found["store_seconds_count"] == 3
    assert 0 < found["store_seconds_sum"] < took
    assert (found["batch_seconds_running"], found["lanes"]) == (0, 1)
    eventually(lambda: Scrape(port)["held_chunks"] == 0)  # the event loop may be a moment behind
    assert found["device_memory_peak_bytes"] >= found["device_memory_bytes"] > 2**20
    (info,) = found.labels("info")
    assert (info["node"], info["model"], info["device"]) == ("w@h", "clock", "cpu0")
    assert (info["fingerprint"], info["dtype"], info["model_name"]) == ("clock-4", "float32", "")
    queues = {"bertq", "bertq.small", "cpu0"}
    assert {labels["queue"] for labels in found.labels("queue_length")} == queues
    assert all(found.get("queue_length", queue=queue) == 0 for queue in queues)
    assert all(found.get("waiting_seconds", queue=queue) == 0 for queue in queues)
    assert SECRET not in found.text
    assert "_created" not in found.text
    assert "process_resident_memory_bytes" in found.names
    # The worker publishes the same numbers.
    eventually(lambda: worker_info.read(redis)[0].work.sentences == 252, 20)
    (published,) = worker_info.read(redis)
    assert (published.work.batches, published.work.redelivered) == (5, 0)


def test_metrics_of_waiting_redelivered_and_rejected_chunks(
    start: Start, redis: Redis, port: int
) -> None:
    push(redis, [f"{SECRET} {text}" for text in sentences(200)])
    time.sleep(1.2)
    worker = start(50, *metrics_options(port))
    assert scrape_after_results(port, 1, worker)["queue_wait_seconds_sum"] > 1.2
    push(redis, [SECRET, SECRET], again=True)
    push(redis, [[SECRET]])  # no sentence
    found = scrape_after_results(port, 3, worker)
    assert (found["redelivered_chunks_total"], found["rejected_chunks_total"]) == (1, 1)
    assert (found["chunks_total"], found["sentences_total"]) == (2, 202)
    # A redelivered chunk has also waited for its dead worker.
    assert found["queue_wait_seconds_count"] == 1
    # Of other clients: without the time, or with one that cannot be, or that is yet to come.
    invalid = [None, SECRET, "1", [1], True, 0, -1, 10**400, math.nan, math.inf]
    for sent in (*invalid, time.time() + 3600):
        push(redis, ["a"], sent=sent)
    found = scrape_after_results(port, 3 + len(invalid) + 1, worker)
    assert (found["failures_total"], found["chunks_total"]) == (0, 2 + len(invalid) + 1)
    assert found["queue_wait_seconds_count"] == 2
    assert found.get("queue_wait_seconds_bucket", le="0.001") == 1
    assert SECRET not in found.text + worker.log


def test_a_chunk_that_the_service_fails_counts_as_a_failure(
    start_poisoned: Start, client: BertClient, port: int
) -> None:
    worker = start_poisoned(1, *metrics_options(port))
    worker.wait_ready()
    with pytest.raises(RemoteError, match="ArithmeticError"):
        client.encode([f"{FAIL} {SECRET}"])
    worker.wait_for_log(": failed, ArithmeticError")
    found = Scrape(port)
    assert (found["failures_total"], found["rejected_chunks_total"]) == (1, 0)
    assert "ERROR" in worker.log


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"truncate": "error"}, SentenceTooLong),
        ({"prompt_name": "none"}, RemoteError),
        ({"dimensions": 10**6}, RemoteError),
        ({"precision": "int8"}, RemoteError),
    ],
    ids=["too long", "unknown prompt", "dimensions", "ranges"],
)
def test_a_callers_mistake_is_no_failure_of_the_worker(
    real_worker: WorkerProcess, real_port: int, options: dict[str, Any], error: type[Exception]
) -> None:
    before = Scrape(real_port)
    with (
        BertClient(redis_url=real_worker.url, timeout=60, check_length=False) as client,
        pytest.raises(error),
    ):
        client.encode([f"{SECRET} " * 500], **options)
    eventually(
        lambda: Scrape(real_port)["rejected_chunks_total"] == before["rejected_chunks_total"] + 1
    )
    found = Scrape(real_port)
    assert (found["failures_total"], found["truncated_sentences_total"]) == (
        before["failures_total"], before["truncated_sentences_total"],
    )  # fmt: skip
    (line,) = real_worker.log.splitlines()[-1:]
    assert ": rejected, " in line
    assert "INFO" in line
    assert "ERROR/" not in real_worker.log
    assert SECRET not in real_worker.log


def test_truncated_sentences_are_counted(real_worker: WorkerProcess, real_port: int) -> None:
    before = Scrape(real_port)["truncated_sentences_total"]
    with BertClient(redis_url=real_worker.url, timeout=60, check_length=False) as client:
        client.encode([f"{SECRET} " * 500, "short", "long " * 500])
    eventually(lambda: Scrape(real_port)["truncated_sentences_total"] == before + 2)


def test_messages_of_durable_jobs_have_no_time(
    start: Start, client: BertClient, redis: Redis, port: int
) -> None:
    # A worker puts their chunks on the queue as others are answered.
    job = client.submit(sentences(600))
    waiting: Any = redis.lrange("bertq", 0, -1)
    assert waiting
    assert all("sent" not in json.loads(message)["headers"] for message in waiting)
    worker = start(20, *metrics_options(port))
    assert job.result(30).shape == (600, DIM)
    found = scrape_after_results(port, 3, worker)
    assert (found["sentences_total"], found["store_seconds_count"]) == (600, 3)
    assert found["queue_wait_seconds_count"] == 0


def test_a_hanging_batch_is_visible_in_the_metrics(
    start_poisoned: Start, client: BertClient, redis: Redis, port: int
) -> None:
    worker = start_poisoned(1, *metrics_options(port, "--batch-timeout", "8"))
    worker.wait_ready()
    future = client.encode_async([f"{HANG} {SECRET}"])
    eventually(lambda: Scrape(port)["batch_seconds_running"] > 1, 20)
    found = Scrape(port)
    assert (found["held_chunks"], found["batches_total"]) == (1, 0)
    assert found["batch_seconds_running"] < 20
    # The worker info is renewed, with the time of the batch.
    eventually(lambda: worker_info.read(redis)[0].work.batch_seconds > 1, 10)
    assert worker.process.wait(30) == os.EX_SOFTWARE
    assert not future.done()
    assert SECRET not in worker.log


def test_metrics_without_redis(start_own_server: StartServer, tmp_path: Path, port: int) -> None:
    server = start_own_server()
    url = f"redis://127.0.0.1:{server.port}/0"
    for start in starter(StandInWorker, url, tmp_path):
        start(1, *metrics_options(port))
        with Redis.from_url(url) as redis, BertClient(redis_url=url, timeout=30) as client:
            client.encode(["a"])
            redis.lpush("gpu7", "x")
            server_info: Any = redis.info("server")
            pid = server_info["process_id"]
        assert len(Scrape(port).labels("queue_length")) == 3
        os.kill(pid, signal.SIGSTOP)
        try:
            found = Scrape(port)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert found.labels("queue_length") == []
        assert found["sentences_total"] == 1
        assert found.seconds < 3


def test_a_port_that_is_taken_is_one_line(refuse: Refuse) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        status, lines = refuse(["--metrics-port", str(taken)], {})
    assert status == os.EX_UNAVAILABLE
    reason = f"port {taken} of 127.0.0.1 is taken: choose another port for metrics"
    assert [f"this worker cannot start: {reason}" in line for line in lines] == [True], lines


def test_a_real_model(
    redis_url: str, tiny_model: Path, start_worker: StartWorker, port: int
) -> None:
    from bertq_bert import read_source

    worker = start_worker(redis_url, tiny_model, *metrics_options(port, "--threads", "1"))
    # While the model is loaded there is an answer, with zeros and without a model.
    eventually(lambda: b"metrics at port" in worker.log_path.read_bytes(), 60)
    worker.wait_ready()
    texts = [f"the lord is my shepherd {number}" for number in range(300)]
    with BertClient(redis_url=redis_url, timeout=60) as client:
        assert np.isfinite(client.encode(texts)).all()
    found = scrape_after_results(port, 2, worker)
    model = read_source(tiny_model).model
    ids, _ = model.tokenize(texts)
    assert found["sentences_total"] == found["batch_rows_sum"] == 300
    assert found["tokens_total"] == sum(map(len, ids))
    assert 0 < found["batch_fill_sum"] <= found["batch_fill_count"] == found["batches_total"]
    assert found["device_memory_bytes"] > 200 * 2**20  # TensorFlow alone
    (info,) = found.labels("info")
    assert (info["fingerprint"], info["device_name"]) == (model.fingerprint, "cpu")
    assert info["version_tensorflow"]


def test_the_default_registry_is_not_used() -> None:
    assert metrics.WorkerMetrics is not None
    names = {family.name for family in REGISTRY.collect()}
    assert not any(name.startswith("bertq") for name in names)


def test_metrics_of_compiled_shapes(redis_url: str) -> None:
    collector = metrics.WorkerMetrics(Meter(), redis_url)
    names = {f"bertq_worker_{name}" for name in COMPILE_NAMES}
    assert names.isdisjoint(family.name for family in collector.collect())
    stats: Any = SimpleNamespace(shapes=3, seconds=4.5, errors=0)
    collector.compile_stats = lambda: stats
    found = {family.name: family.samples[0].value for family in collector.collect()}
    assert found["bertq_worker_compiled_shapes"] == 3
    assert found["bertq_worker_compile_seconds"] == 4.5


def test_the_documentation_lists_every_metric() -> None:
    page = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `bertq_worker_(\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert len(listed) == len(NAMES | COMPILE_NAMES)
    counters = {name.removesuffix("_total") for name, kind in listed if kind == "counter"}
    others = {name for name, kind in listed if kind != "counter"}
    assert counters | others == NAMES | COMPILE_NAMES
    assert counters == {*metrics._TOTALS, "compile_seconds"}
