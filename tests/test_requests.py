"""Options of requests on real workers with tiny models of each task, compared with one process.

The directories are made here, in the format of sentence-transformers 2 to 5.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import astuple
from safetensors.numpy import load_file, save_file

from bertq import BertClient, SparseRows
from bertq.errors import BadInputValue, RemoteError
from bertq_bert import Encoder, load_encoder
from tests.bert.checkpoints import TINY, write_tiny_hf
from tests.conftest import StartWorker, WorkerProcess

TEXTS = ["the lord", "he shall be unto them", "i ||| his", "not him", "a " * 60]
PAIRS: list[Any] = [("the lord", "he shall"), ["not him", "they"], ("the lord", "he shall")]
PROMPTS = {"query": "for the lord: ", "passage": "unto them: ", "web": ""}
HIDDEN = TINY["hidden_size"]


def write(path: Path, value: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_modules(directory: Path, *types: str) -> None:
    """Write ``modules.json``; each module except the first has its own directory."""
    modules = []
    for index, kind in enumerate(types):
        path = f"{index}_{kind.rpartition('.')[2]}" if index else ""
        kind = f"sentence_transformers.{kind}"
        modules.append({"idx": index, "name": str(index), "path": path, "type": kind})
    write(directory / "modules.json", modules)


def write_embedder(directory: Path) -> Path:
    """Mean of the last layer, normalized, with prompts and ranges for int8."""
    write_tiny_hf(directory)
    write_modules(directory, "models.Transformer", "models.Pooling", "models.Normalize")
    write(directory / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    write(directory / "config_sentence_transformers.json", {"prompts": PROMPTS})
    ranges = [[-0.3 - column / 100 for column in range(HIDDEN)], [0.3] * HIDDEN]
    write(directory / "ranges.json", {"ranges": ranges})
    return directory


def add_tensors(directory: Path, **shapes: tuple[int, ...]) -> None:
    """Add random tensors to the weights; ``__`` stands for a dot."""
    rng = np.random.default_rng(5)
    made = {
        name.replace("__", "."): rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    path = directory / "model.safetensors"
    save_file(load_file(path) | made, path)


def write_scorer(directory: Path) -> Path:
    """A cross-encoder with one label; its scores are logits."""
    write_tiny_hf(
        directory, prefix="bert.", architectures=["BertForSequenceClassification"],
        id2label={"0": "LABEL_0"},
        sbert_ce_default_activation_function="torch.nn.modules.linear.Identity",
    )  # fmt: skip
    add_tensors(directory, classifier__weight=(1, HIDDEN), classifier__bias=(1,))
    return directory


def write_splade(directory: Path) -> Path:
    """A SPLADE."""
    write_tiny_hf(directory, prefix="bert.", architectures=["BertForMaskedLM"])
    kind = "sparse_encoder.models"
    write_modules(directory, f"{kind}.MLMTransformer", f"{kind}.SpladePooling")
    write(directory / "1_SpladePooling/config.json", {"pooling_strategy": "max"})
    transform = "cls__predictions__transform__"
    add_tensors(
        directory,
        **{
            "cls__predictions__bias": (TINY["vocab_size"],),
            f"{transform}dense__weight": (HIDDEN, HIDDEN), f"{transform}dense__bias": (HIDDEN,),
            f"{transform}LayerNorm__weight": (HIDDEN,), f"{transform}LayerNorm__bias": (HIDDEN,),
        },
    )  # fmt: skip
    return directory


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory for each task."""
    root = tmp_path_factory.mktemp("models")
    return {
        "embed": write_embedder(root / "embedder"),
        "score": write_scorer(root / "scorer"),
        "sparse": write_splade(root / "splade"),
    }


@pytest.fixture(scope="module")
def workers(
    models: dict[str, Path], module_redis_url: str, module_start_worker: StartWorker
) -> dict[str, WorkerProcess]:
    """A worker for each."""
    ranges = f"--int8-ranges={models['embed'] / 'ranges.json'}"
    started = {
        task: module_start_worker(
            module_redis_url, path, "--model-name", task, "-n", f"{task}@%h",
            *([ranges] if task == "embed" else []),
        )
        for task, path in models.items()
    }  # fmt: skip
    return {task: worker.wait_ready() for task, worker in started.items()}


@pytest.fixture
def client(
    request: pytest.FixtureRequest, workers: dict[str, WorkerProcess], module_redis_url: str
) -> Iterator[BertClient]:
    """A client of the worker for the task that a test names."""
    with BertClient(
        redis_url=module_redis_url, model=request.param, timeout=60, check_length=False
    ) as made:
        yield made


@pytest.fixture(scope="module")
def embedder(models: dict[str, Path]) -> Encoder:
    """The first of them, in this process."""
    return load_encoder(models["embed"], int8_ranges=models["embed"] / "ranges.json")


of_vectors = pytest.mark.parametrize("client", ["embed"], indirect=True)
of_scores = pytest.mark.parametrize("client", ["score"], indirect=True)
of_weights = pytest.mark.parametrize("client", ["sparse"], indirect=True)


@of_vectors
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": False},
        {"normalize": True},
        {"dimensions": 7},
        {"dimensions": 7, "normalize": False},
        {"pairs": True},
        {"prompt_name": "query"},
        {"prompt": "they shall "},
        {"prompt": ""},
        {"input_type": "query"},
        {"input_type": "document"},
        {"input_type": "web"},
        {"precision": "float16"},
        {"precision": "int8"},
        {"precision": "uint8", "input_type": "query"},
        {"precision": "binary"},
        {"precision": "ubinary", "dimensions": 12},
    ],
)
def test_vectors(client: BertClient, embedder: Encoder, options: Any) -> None:
    found, expected = client.encode(TEXTS, **options), embedder.encode(TEXTS, **options)
    assert found.dtype == expected.dtype
    # The other batch may move a number over the border of two steps.
    tolerance = {"int8": 1, "uint8": 1, "float16": 1e-3}.get(options.get("precision"), 1e-5)
    np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=tolerance)


@of_vectors
def test_the_directory_decides(client: BertClient, embedder: Encoder) -> None:
    vectors = client.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    queries, passages = client.encode_query(TEXTS), client.encode_document(TEXTS)
    np.testing.assert_allclose(
        queries, client.encode([PROMPTS["query"] + text for text in TEXTS]), atol=1e-5
    )
    np.testing.assert_allclose(
        passages, client.encode([PROMPTS["passage"] + text for text in TEXTS]), atol=1e-5
    )
    assert not np.allclose(vectors, queries)
    assert not np.allclose(vectors, client.encode(TEXTS, pairs=True))
    short = client.encode(TEXTS, dimensions=7)
    again = vectors[:, :7] / np.linalg.norm(vectors[:, :7], axis=1, keepdims=True)
    np.testing.assert_allclose(short, again, atol=1e-5)
    np.testing.assert_array_equal(client.encode(PAIRS)[0], client.encode(PAIRS)[2])
    np.testing.assert_allclose(client.encode(PAIRS), embedder.encode(PAIRS), atol=1e-5)


@of_vectors
def test_tokens_and_texts_of_ids(client: BertClient, embedder: Encoder) -> None:
    cases: list[Any] = [{}, {"prompt_name": "query"}, {"special_tokens": False}]
    for options in cases:
        found = client.tokenize_async(TEXTS, **options).result(60)
        prompt = PROMPTS.get(options.get("prompt_name", ""), "")
        expected = embedder.locate(
            TEXTS, prompt=prompt, special_tokens=options.get("special_tokens", True)
        )
        assert [[astuple(token) for token in row] for row in found] == expected
        ids = [[token.id for token in row] for row in found]
        assert client.decode_async(ids).result(60) == embedder.decode(ids)
        plain = client.decode_async(ids, special_tokens=False).result(60)
        assert plain == embedder.decode(ids, skip_special=True)
    assert len(found[-1]) > embedder.max_seq_len  # nothing is cut
    with pytest.raises(RemoteError, match="no prompt of that name"):
        client.tokenize_async(["a"], prompt_name="x").result(60)
    with pytest.raises(RemoteError, match="row 0 has an id that is not in"):
        client.decode_async([[10**7]]).result(60)


@of_vectors
def test_tokens_have_no_prompt(client: BertClient) -> None:
    tokens = [["the", "lord"]]
    vectors, shown = client.encode(tokens, is_tokenized=True, show_tokens=True)
    assert shown == [["[CLS]", "the", "lord", "[SEP]"]]
    np.testing.assert_allclose(vectors, client.encode(["the lord"]), atol=1e-5)


@of_vectors
def test_options_in_jobs_streams_and_files(
    client: BertClient, embedder: Encoder, tmp_path: Path
) -> None:
    options: Any = {"input_type": "query", "dimensions": 8, "precision": "binary"}
    expected = embedder.encode(TEXTS, **options)
    np.testing.assert_array_equal(client.submit(TEXTS, **options).result(60), expected)
    (batch,) = client.encode_stream(TEXTS, **options)
    np.testing.assert_array_equal(batch.vectors, expected)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    client.encode_file(tmp_path / "texts.txt", tmp_path / "v.npy", **options)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)


@of_vectors
@pytest.mark.parametrize(
    ("options", "type_name"),
    [
        ({"prompt_name": "secret"}, "UnknownPrompt"),
        ({"input_type": "secret"}, "UnknownPrompt"),
        ({"dimensions": HIDDEN + 1}, "UnsuitedRows"),
        ({"dimensions": 8, "precision": "int8"}, "UnsuitedRows"),
        ({"normalize": False, "precision": "int8"}, "UnsuitedRows"),
    ],
)
def test_options_that_the_model_lacks(
    client: BertClient, workers: dict[str, WorkerProcess], options: Any, type_name: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        client.encode(["the secret"], **options)
    assert caught.value.type_name == type_name
    assert "secret" not in str(caught.value)
    workers["embed"].wait_for_log(type_name)
    assert "secret" not in workers["embed"].log


@of_vectors
def test_a_prompt_reaches_no_log(client: BertClient, workers: dict[str, WorkerProcess]) -> None:
    client.encode(["the lord"], prompt="my secret: ")
    with pytest.raises(BadInputValue) as caught:
        client.encode(["the lord"], prompt="my secret: " * 1000)
    assert "secret" not in str(caught.value)
    assert "secret" not in workers["embed"].log


@of_scores
def test_scores(
    client: BertClient, workers: dict[str, WorkerProcess], models: dict[str, Path]
) -> None:
    expected = load_encoder(models["score"]).encode(PAIRS)
    found = client.encode(PAIRS)
    assert found.shape == (3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    ranked = client.rerank(PAIRS[0][0], [pair[1] for pair in PAIRS[:2]] * 20, 3)
    alone = client.encode([(PAIRS[0][0], pair[1]) for pair in PAIRS[:2]])
    assert [document.score for document in ranked] == pytest.approx([alone.max()] * 3, abs=1e-5)
    (info,) = (info for info in client.server_config.values() if info["model_name"] == "score")
    assert (info["task"], info["activation"], info["labels"]) == ("score", "identity", ["LABEL_0"])
    halves = client.encode(PAIRS, precision="float16", normalize=False)
    assert halves.dtype == np.float16
    for options in ({"normalize": True}, {"dimensions": 1}, {"precision": "int8"}):
        with pytest.raises(RemoteError, match="UnsuitedRows: this model gives scores"):
            client.encode(PAIRS, **options)


@of_weights
def test_sparse_rows(client: BertClient, models: dict[str, Path]) -> None:
    expected = load_encoder(models["sparse"]).encode(TEXTS)
    found = client.encode([*TEXTS, *TEXTS])
    assert isinstance(found, SparseRows)
    assert found.shape == (2 * len(TEXTS), TINY["vocab_size"])
    assert 0 < len(found.indices) < found.shape[0] * found.shape[1]
    np.testing.assert_allclose(found.toarray(), np.concatenate([expected] * 2), atol=1e-5)
    job = client.submit(TEXTS, precision="float16")
    np.testing.assert_allclose(job.result(60).toarray(), expected, atol=1e-2)
    with pytest.raises(RemoteError, match="UnsuitedRows: this model gives sparse rows"):
        client.encode(TEXTS, dimensions=5)
