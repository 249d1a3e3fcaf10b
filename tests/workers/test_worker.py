"""A worker as a user starts it, as a process with a tiny model."""

import base64
import json
import pickle
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kombu import Connection
from kombu.serialization import disable_insecure_serializers, enable_insecure_serializers
from redis import Redis

from bertq import BertClient
from bertq.errors import NoWorker, RemoteError
from bertq.protocol import keys
from bertq.state import jobs, worker_info
from tests.chaos.quick import WORKER_TTL_SECONDS
from tests.conftest import StartWorker, WorkerProcess
from tests.waiting import eventually
from tests.workers.standins import QuickWorker, Start

SECRET = "xylophone"


@pytest.fixture(scope="module")
def worker(
    module_redis_url: str, tiny_model: Path, module_start_worker: StartWorker
) -> WorkerProcess:
    options = ("--concurrency", "1", "-Q", "cpu0", "--max-seq-len", "12", "--threads", "1")
    return module_start_worker(module_redis_url, tiny_model, *options).wait_ready()


@pytest.fixture
def client(worker: WorkerProcess) -> Iterator[BertClient]:
    with BertClient(redis_url=worker.url, timeout=60, check_length=False) as made:
        yield made


@pytest.fixture
def redis(worker: WorkerProcess) -> Iterator[Redis]:
    with Redis.from_url(worker.url) as connection:
        yield connection


def sentences(count: int) -> list[str]:
    words = "the of and to in that he shall unto for".split()  # noqa: SIM905 - it reads better
    return [" ".join(words[: 1 + (7 * n) % 10]) + f" {n}" for n in range(count)]


def test_rows_are_those_of_the_model(client: BertClient, tiny_model: Path) -> None:
    from bertq_bert import load_encoder

    texts = sentences(700)
    encoder = load_encoder(tiny_model, max_seq_len=12)
    vectors = client.encode(texts)
    assert vectors.shape == (700, *encoder.row_shape)
    # Another number of threads, other batches: the random model has values of about 3.
    np.testing.assert_allclose(vectors, encoder.encode(texts), rtol=0, atol=5e-6)
    np.testing.assert_allclose(client.encode(texts[:3]), vectors[:3], rtol=0, atol=5e-6)


def test_it_takes_from_its_own_and_the_shared_queues(worker: WorkerProcess) -> None:
    vectors = []
    for queue in (None, "bertq", "bertq.small", "cpu0"):
        with BertClient(redis_url=worker.url, timeout=60, queue=queue) as client:
            vectors.append(client.encode(["the lord"]))
    for other in vectors[1:]:
        np.testing.assert_array_equal(other, vectors[0])


def test_the_worker_info(worker: WorkerProcess, client: BertClient, tiny_model: Path) -> None:
    ((node, config),) = client.server_config.items()
    assert node.startswith("cpu0@")
    assert config["queues"] == ["bertq", "bertq.small", "cpu0"]
    assert (config["device"], config["device_name"]) == ("cpu0", "cpu")
    assert (config["model"], config["max_seq_len"]) == (tiny_model.name, 12)
    assert (config["pooling_strategy"], config["pooling_layer"]) == ("REDUCE_MEAN", [-2])
    assert (config["dtype"], config["max_batch_size"]) == ("float32", 256)
    assert re.fullmatch("[0-9a-f]{64}", config["fingerprint"])
    assert config["pid"] == worker.process.pid
    assert config["work"]["memory"] > 200 * 2**20  # TensorFlow alone
    assert set(config["versions"]) == {"bertq", "celery", "tensorflow", "python"}


def test_ready_comes_after_the_model(worker: WorkerProcess) -> None:
    worker.wait_for_log(" ready.")
    log = worker.log
    assert 0 < log.index("queue cpu0: CUDA_VISIBLE_DEVICES=-1") < log.index("ready after")
    assert log.index("ready after") < log.index(" ready.")
    assert re.search(r"float32; ready after \d+\.\d s, \d{3,4} MiB", log)


def test_one_line_a_chunk_without_text_or_vectors(
    worker: WorkerProcess, client: BertClient
) -> None:
    before = len(worker.log)
    client.encode([f"{SECRET} {number}" for number in range(300)])
    worker.wait_for(lambda: worker.log[before:].count(": 150 rows, ") == 2)
    lines = worker.log[before:].splitlines()
    assert len(lines) == 2
    assert all(
        re.search(r"chunk [0-9a-f]{32}-[01]: 150 rows, \d+ tokens, \d+\.\d{3} s$", line)
        for line in lines
    )


def test_a_failing_chunk_fails_alone(
    worker: WorkerProcess, client: BertClient, redis: Redis
) -> None:
    # Chunks that a BertClient does not send.
    for body, error, reason in (
        ([[5], {}], "BadInputType", "a chunk must be a list of str"),
        ([[], {}], "BadInputValue", "a chunk of 0 sentences"),
        ([[SECRET], [SECRET]], "BadInputValue", "the options of a chunk must be a map"),
        ([], "TypeError", "missing 1 required positional argument"),
        ([[SECRET], {}, [SECRET]], "TypeError", "positional arguments"),
    ):
        future = _send_raw(worker.url, redis, lambda _, body=body: json.dumps([body, {}, {}]))
        with pytest.raises(RemoteError, match=reason) as caught:
            future.result(30)
        assert caught.value.type_name == error
        verb = "failed" if error == "TypeError" else "rejected"
        worker.wait_for_log(f"{verb}, {error}: ")
    assert client.encode(["after"]).shape[0] == 1
    assert SECRET not in worker.log


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda message: message["headers"].update(task="bertq.other"), "no task of that name"),
        (lambda message: message.update(body="!!! no base64 !!!"), "cannot be decoded"),
        (
            lambda message: message.update({"content-type": "application/x-python-serialize"}),
            "it is malformed",
        ),
        (lambda message: message["headers"].update(id=5), None),
        (lambda message: message.update(headers={}), None),
    ],
    ids=["name", "body", "pickle", "id", "empty"],
)
def test_a_message_that_is_no_chunk_is_refused(
    worker: WorkerProcess, client: BertClient, redis: Redis, damage: Any, reason: str | None
) -> None:
    before = len(worker.log)
    with BertClient(redis_url=worker.url, queue="gpu9") as other:
        future = other.encode_async([SECRET])
        message = _pop(redis, "gpu9")
        damage(message)
        redis.lpush("bertq", json.dumps(message))
        assert client.encode(["after"]).shape[0] == 1
        worker.wait_for(lambda: len(worker.log) > before)
        if reason is not None:
            # The client gets the error at once.
            with pytest.raises(RemoteError, match=reason):
                future.result(20)
    assert SECRET not in worker.log
    assert "Traceback" not in worker.log[before:]


def test_a_pickle_is_not_loaded(
    worker: WorkerProcess, client: BertClient, redis: Redis, tmp_path: Path
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    before = len(worker.log)
    enable_insecure_serializers(["pickle"])
    try:
        with Connection(worker.url) as connection:
            connection.Producer().publish(
                pickle.dumps([[Bomb()], {}, {}]),
                routing_key="bertq",
                content_type="application/x-python-serialize",
                content_encoding="binary",
                headers={"task": "bertq.encode", "id": "evil-0", "argsrepr": "", "kwargsrepr": ""},
                reply_to="nobody",
                correlation_id="evil-0",
            )
    finally:
        disable_insecure_serializers()
    worker.wait_for(lambda: "refused a message" in worker.log[before:])
    assert client.encode(["after"]).shape[0] == 1
    assert not (tmp_path / "exploded").exists()


def test_nothing_is_left_in_redis(worker: WorkerProcess, redis: Redis) -> None:
    with BertClient(redis_url=worker.url, timeout=60, check_length=False) as client:
        client.encode(sentences(600))
    ours = [key for key in redis.scan_iter("bertq:*") if key != keys.EPOCH.encode()]
    assert all(int(redis.ttl(key)) > 0 for key in ours)
    # A chunk is acknowledged a moment after its rows are stored.
    worker.wait_for(lambda: redis.hlen("unacked") == 0)


def test_a_chunk_of_a_job_that_is_gone_is_dropped(worker: WorkerProcess, redis: Redis) -> None:
    before = len(worker.log)
    with BertClient(redis_url=worker.url, queue="gpu9") as client:
        client.encode_async([SECRET])
        message = _pop(redis, "gpu9")
    jobs_left = [key.decode().removeprefix("bertq:job:") for key in redis.scan_iter("bertq:job:*")]
    jobs.discard(redis, jobs_left)
    redis.lpush("bertq", json.dumps(message))
    worker.wait_for(lambda: "dropped, its job is over" in worker.log[before:])
    assert " rows, " not in worker.log[before:]


def test_events_carry_no_text(worker: WorkerProcess, client: BertClient, redis: Any) -> None:
    with redis.pubsub() as listener:
        listener.psubscribe("*")
        client.encode([f"{SECRET} {number}" for number in range(20)])
        received = b""
        give_up = time.monotonic() + 20
        while b"task-succeeded" not in received and time.monotonic() < give_up:
            message: Any = listener.get_message(timeout=0.5)
            if message and isinstance(message["data"], bytes):
                # kombu wraps each event in base64.
                for part in re.findall(rb'"body": "([^"]*)"', message["data"]):
                    received += base64.b64decode(part)
    assert b"task-succeeded" in received
    assert b"<20 sentences>" in received
    assert SECRET.encode() not in received


def test_sigterm_is_a_clean_end(redis_url: str, start: Start) -> None:
    worker = start(200, "-Q", "cpu1", "-n", "mine@%h")
    with Redis.from_url(redis_url) as redis, BertClient(redis_url=redis_url, timeout=60) as client:
        (info,) = worker_info.read(redis)
        assert info.node.startswith("mine@")
        future = client.encode_async(sentences(2000))
        worker.wait_for_log(" rows, ")
        assert worker.stop() == 0
        assert worker_info.read(redis) == []
        assert redis.hlen("unacked") == 0
        assert not future.done() or future.exception() is None
        # The next worker encodes the remaining chunks.
        start(1, "-Q", "cpu1")
        assert future.result(60).shape[0] == 2000


def test_a_killed_worker_is_not_listed(redis_url: str, tmp_path: Path) -> None:
    worker = QuickWorker(redis_url, tmp_path / "log", 1, "-Q", "cpu1").wait_ready()
    worker.kill()
    with Redis.from_url(redis_url) as redis:
        eventually(lambda: not worker_info.read(redis), WORKER_TTL_SECONDS + 5)
    with (
        BertClient(redis_url=redis_url, timeout=1) as client,
        pytest.raises(NoWorker, match="no worker takes from queue"),
    ):
        client.encode(["the lord"])


def test_a_worker_that_is_still_loading_can_be_stopped(
    redis_url: str, tiny_model: Path, start_worker: StartWorker
) -> None:
    worker = start_worker(redis_url, tiny_model, "-Q", "cpu0")
    worker.wait_for_log("CUDA_VISIBLE_DEVICES")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(10) == -signal.SIGTERM


def _pop(redis: Redis, queue: str) -> dict[str, Any]:
    """Take the message of a client from a queue without workers."""
    eventually(lambda: redis.llen(queue), 20)
    text: Any = redis.rpop(queue)
    message: dict[str, Any] = json.loads(text)
    return message


def _send_raw(url: str, redis: Redis, make_body: Any) -> Any:
    """Replace the body of the chunk for which a client waits."""
    with_queue = BertClient(redis_url=url, queue="gpu9", timeout=30)
    future = with_queue.encode_async([SECRET])
    message = _pop(redis, "gpu9")
    message["body"] = base64.b64encode(make_body(message).encode()).decode()
    redis.lpush("bertq", json.dumps(message))
    return future
