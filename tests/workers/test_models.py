"""Several models on one server: each has its own queues."""

import os
from pathlib import Path

import numpy as np
import pytest
from celery.utils.nodenames import gethostname
from redis import Redis

from bertq import BertClient
from bertq.errors import NoWorker, RemoteError
from bertq.protocol import keys
from bertq.state import worker_info
from tests.bert.checkpoints import write_tiny_hf
from tests.conftest import StartWorker

MANY = [f"the lord {number}" for number in range(40)]
FEW = MANY[:3]


def test_each_client_gets_the_rows_of_its_model(
    redis_url: str, redis: Redis, tmp_path: Path, start_worker: StartWorker
) -> None:
    from bertq_bert import load_encoder

    models = {name: write_tiny_hf(tmp_path / name, seed) for seed, name in enumerate(["a", "b"])}
    # Two models on one device of one machine: neither needs a name of its worker.
    common = ("-Q", "cpu0", "--threads", "1", "--no-show-tokens-to-client")
    workers = [
        start_worker(redis_url, path, "--model-name", name, *common)
        for name, path in models.items()
    ]
    for worker in workers:
        worker.wait_ready()
    found = worker_info.read(redis)
    assert [info.node for info in found] == [f"cpu0-{name}@{gethostname()}" for name in "ab"]
    for info, name in zip(found, "ab", strict=True):
        assert info.model_name == name
        assert info.queues == [f"bertq.{name}", f"bertq.{name}.cpu0", f"bertq.{name}.small"]
        for queue in (f"bertq.{name}", f"bertq.{name}.small"):
            assert redis.get(keys.claim(queue)) == info.fingerprint.encode()

    for name, path in models.items():
        expected = load_encoder(path).encode(MANY)
        with BertClient(redis_url=redis_url, model=name, timeout=60) as client:
            np.testing.assert_allclose(client.encode(MANY), expected, rtol=0, atol=5e-6)
            np.testing.assert_allclose(client.encode(FEW), expected[:3], rtol=0, atol=5e-6)
            with pytest.raises(RemoteError, match="shows no tokens"):
                client.encode(FEW, show_tokens=True)
            with pytest.raises(RemoteError, match="shows no tokens"):
                client.tokenize_async(FEW).result(60)
        with BertClient(redis_url=redis_url, model=name, queue="cpu0", timeout=60) as client:
            np.testing.assert_allclose(client.encode(FEW), expected[:3], rtol=0, atol=5e-6)
    with (
        BertClient(redis_url=redis_url, timeout=1) as client,
        pytest.raises(NoWorker, match="no worker takes from queue"),
    ):
        client.encode(FEW)
    for worker in workers:
        assert worker.stop() == 0


def test_a_queue_of_another_model_is_refused(
    redis_url: str, tiny_model: Path, start_worker: StartWorker
) -> None:
    worker = start_worker(redis_url, tiny_model, "-Q", "bertq", "--model-name", "a")
    assert worker.process.wait(60) == os.EX_CONFIG, worker.log
    assert "Traceback" not in worker.log
    reason = "queue bertq belongs to the model without a name, not to model a"
    assert f"this worker cannot start: {reason}" in worker.log
