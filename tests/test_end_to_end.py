"""The real model through the whole system, as a user runs it, against the golden vectors."""

import json
from pathlib import Path

import numpy as np
import pytest

from bertq import BertClient
from tests.conftest import StartWorker, WorkerProcess
from tests.gateway.conftest import running

GOLDEN = Path(__file__).parent / "data" / "golden"


@pytest.fixture(scope="module")
def worker(
    module_redis_url: str, demo_model: Path, module_start_worker: StartWorker
) -> WorkerProcess:
    """A worker without options about the model."""
    options = ("--concurrency", "1", "-Q", "gpu0")
    return module_start_worker(module_redis_url, demo_model, *options).wait_ready()


@pytest.fixture(scope="module")
def old(worker: WorkerProcess, demo_model: Path, module_start_worker: StartWorker) -> WorkerProcess:
    """One that is started as bert-as-service would be."""
    options = ("--concurrency", "1", "-Q", "cpu0", "--model-name", "old")
    compat = ("--compat", "bert-as-service")
    return module_start_worker(worker.url, demo_model, *options, *compat).wait_ready()


def test_the_vectors_of_sentence_transformers(worker: WorkerProcess) -> None:
    texts = json.loads((GOLDEN / "minilm-st.json").read_text())["texts"]
    with np.load(GOLDEN / "minilm-st.npz") as golden:
        expected = golden["vectors"]
    with BertClient(redis_url=worker.url, timeout=100, check_length=False) as client:
        vectors = client.encode(texts)
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
        (config,) = client.server_config.values()
    description = "mean of the last layer, 256 tokens, L2-normalized (from modules.json)"
    assert (config["description"], config["normalized"]) == (description, True)
    worker.wait_for_log(
        f"model {config['model']} on {config['device_name']}: {description}, float32; ready after"
    )
    with running(worker.url) as gateway:
        (entry,) = gateway.http.get("/v1/models").json()["data"]
        assert entry["description"] == f"{description}, float32"
        assert (entry["dimensions"], entry["max_input_tokens"]) == (384, 256)
        asked = {"model": entry["id"], "input": texts}
        answer = gateway.http.post("/v1/embeddings", json=asked).json()
    rows = np.array([item["embedding"] for item in answer["data"]], np.float32)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-5)


def test_the_vectors_of_bert_as_service(old: WorkerProcess) -> None:
    sentences = json.loads((GOLDEN / "minilm.json").read_text())["sentences"]
    with np.load(GOLDEN / "minilm.npz") as golden:
        expected = golden["REDUCE_MEAN|-2|25"]
    old.wait_for_log("REDUCE_MEAN of layer -2, 25 tokens (from bert-as-service), float32; ready")
    with BertClient(redis_url=old.url, model="old", timeout=100, check_length=False) as client:
        vectors = client.encode(sentences)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=2e-5)
        # One by one, and among others: the same vectors.
        alone = np.concatenate([client.encode([sentence]) for sentence in sentences])
        np.testing.assert_allclose(alone, vectors, rtol=0, atol=5e-6)
        many = client.encode([*sentences, *(f"padding {n} " * (n % 9 + 1) for n in range(500))])
        np.testing.assert_allclose(many[: len(sentences)], vectors, rtol=0, atol=5e-6)


def test_a_gpu_queue_on_a_machine_without_a_gpu_says_so(worker: WorkerProcess) -> None:
    tf = pytest.importorskip("tensorflow")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    worker.wait_for_log("queue gpu0: no GPU found, this worker runs on the CPU")


def test_sentences_do_not_reach_the_log(worker: WorkerProcess) -> None:
    with BertClient(redis_url=worker.url, timeout=100, check_length=False) as client:
        before = worker.log.count("chunk ")
        client.encode(["a very secret xylophone"])
    worker.wait_for_log("chunk ", count=before + 1)
    assert "xylophone" not in worker.log
