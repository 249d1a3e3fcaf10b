"""Similarity and search: with texts, vectors, files, small types and mistakes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bertq import BertClient
from bertq.errors import BadInputType, BadInputValue, ModelMismatch, NoWorker, OutputError
from bertq_bert.quantization import finish_rows
from bertq_client.search import similarity, vectors
from tests.tiny_service import TinyService, tiny_service

TEXTS = [f"the light of {word} number {number}" for number in range(40) for word in ("day", "sea")]
QUERIES = ["the light of day", "who keeps the sea"]


@pytest.fixture(scope="module")
def service(module_redis_url: str) -> Iterator[TinyService]:
    models = {None: "bert-prompt", "cross": "cross-bert", "sparse": "splade-bert"}
    with tiny_service(module_redis_url, models) as running:
        yield running


@pytest.fixture
def redis_url(module_redis_url: str, service: TinyService) -> str:
    return module_redis_url


@pytest.fixture
def client(redis_url: str) -> Iterator[BertClient]:
    with BertClient(redis_url=redis_url, timeout=60, check_length=False) as made:
        yield made


def distances(a: NDArray[Any], b: NDArray[Any], order: int) -> NDArray[Any]:
    return -np.array([[np.linalg.norm(x - y, order) for y in b] for x in a])


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    found: NDArray[Any] = a @ b.T / lengths
    return found


def indices(found: Any) -> list[list[int]]:
    return [[document.index for document in documents] for documents in found]


def scores(found: Any) -> list[list[float]]:
    return [[document.score for document in documents] for documents in found]


@pytest.mark.parametrize("function", [None, *similarity.FUNCTIONS])
def test_similarity(client: BertClient, function: str | None) -> None:
    a, b = client.encode(QUERIES), client.encode(TEXTS)
    expected = {
        "dot": a @ b.T, "euclidean": distances(a, b, 2), "manhattan": distances(a, b, 1),
    }.get(str(function), cosines(a, b))  # fmt: skip
    found = client.similarity(QUERIES, TEXTS, function=function)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(client.similarity(a, TEXTS, function=function), found, atol=1e-4)


def test_the_model_names_the_function(
    client: BertClient, service: TinyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = service.encoders[None]
    a = client.encode(TEXTS)
    try:
        object.__setattr__(encoder, "similarity", "dot")
        service.publish(None)
        client.worker_directory.expire()
        np.testing.assert_allclose(client.similarity(a[:2], a), a[:2] @ a.T, rtol=1e-5)
    finally:
        object.__setattr__(encoder, "similarity", "cosine")
        service.publish(None)


def test_zeros_are_similar_to_nothing(client: BertClient) -> None:
    zeros = np.zeros((1, 3), np.float16)
    assert client.similarity(zeros, np.eye(3), function="cosine").tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("kind", ["texts", "array", "file"])
def test_search(
    client: BertClient, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_MAX_BLOCK_BYTES", 4 * 24 * 7)  # blocks of seven documents
    documents, queries = client.encode_document(TEXTS), client.encode_query(QUERIES)
    expected = cosines(queries, documents)
    corpus: Any = {"texts": TEXTS, "array": documents, "file": tmp_path / "v.npy"}[kind]
    np.save(tmp_path / "v.npy", documents)
    for given in (QUERIES, queries):
        for count in (1, 5, 1000):
            found = client.semantic_search(given, corpus, count)
            best = -np.sort(-expected)[:, :count]
            np.testing.assert_allclose(scores(found), best, atol=1e-5)
            # Some documents are so similar that another batch may exchange them.
            of_indices = np.take_along_axis(expected, np.array(indices(found)), 1)
            np.testing.assert_allclose(of_indices, best, atol=1e-5)


def test_a_file_of_fewer_dimensions(client: BertClient, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    client.encode_file(tmp_path / "corpus.txt", tmp_path / "v.npy", dimensions=8)
    client.encode_file(
        tmp_path / "corpus.txt", tmp_path / "bits.npy", dimensions=8, precision="ubinary"
    )
    expected = cosines(client.encode_query(QUERIES, dimensions=8), np.load(tmp_path / "v.npy"))
    found = client.semantic_search(QUERIES, tmp_path / "v.npy", 3)
    np.testing.assert_allclose(scores(found), -np.sort(-expected)[:, :3], atol=1e-5)
    rescored = client.semantic_search(
        QUERIES, tmp_path / "bits.npy", 80, rescore_with=tmp_path / "v.npy"
    )
    np.testing.assert_allclose(scores(rescored), -np.sort(-expected), atol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary", "float16"])
def test_small_types(client: BertClient, tmp_path: Path, precision: str) -> None:
    rng = np.random.default_rng(1)
    exact = rng.standard_normal((500, 60)).astype(np.float32)
    queries = exact[:20] + rng.standard_normal((20, 60)).astype(np.float32) / 2
    ranges = np.stack([exact.min(axis=0), exact.max(axis=0)])
    (tmp_path / "ranges.json").write_text(json.dumps({"ranges": ranges.tolist()}))
    corpus = finish_rows(
        exact, normalize=False, dimensions=None, precision=precision, int8_ranges=ranges
    )
    files: Any = {}
    if precision in ("int8", "uint8"):
        files["int8_ranges"] = tmp_path / "ranges.json"
    found = client.semantic_search(queries, corpus, 500, function="cosine", **files)
    values = np.array([[score for _, score in sorted(row)] for row in found])
    expected = cosines(queries, exact)
    if "binary" in precision:
        signs = np.where(exact > 0, 1, -1)
        np.testing.assert_allclose(values, cosines(queries, signs), atol=1e-5)
    else:
        assert np.abs(values - expected).max() < 0.02
    best = client.semantic_search(queries, corpus, 1, function="cosine", **files)
    assert indices(best) == [[number] for number in range(20)]
    rescored = client.semantic_search(
        queries, corpus, 10, function="cosine", rescore_with=exact, **files
    )
    assert [row[0] for row in indices(rescored)] == list(range(20))
    of_indices = np.take_along_axis(expected, np.array(indices(rescored)), 1)
    np.testing.assert_allclose(scores(rescored), of_indices, atol=1e-5)


def test_integers_without_ranges(client: BertClient, tmp_path: Path) -> None:
    (tmp_path / "v.npy.json").write_text("{}")
    np.save(tmp_path / "v.npy", np.ones((2, 3), np.int8))
    with pytest.raises(OutputError, match="was not written by bertq encode"):
        client.semantic_search(ONES, tmp_path / "v.npy", function="dot")
    (tmp_path / "ranges.json").write_text('{"ranges": [[0, 0], [1, 1]]}')
    with pytest.raises(BadInputValue, match="int8_ranges are of 2 dimensions, and corpus has 3"):
        client.semantic_search(ONES, np.ones((2, 3), np.int8), int8_ranges=tmp_path / "ranges.json")


def test_a_corpus_of_another_model(
    client: BertClient, redis_url: str, tmp_path: Path, service: TinyService
) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    output = tmp_path / "v.npy"
    client.encode_file(tmp_path / "corpus.txt", output)
    known = json.loads((tmp_path / "v.npy.json").read_text())
    (tmp_path / "v.npy.json").write_text(json.dumps(known | {"fingerprint": "other"}))
    with pytest.raises(ModelMismatch, match=r"v.npy was made with model other, and the workers"):
        client.semantic_search(QUERIES, output)
    (tmp_path / "v.npy.json").write_text(json.dumps(known | {"complete": False}))
    with pytest.raises(BadInputValue, match=r"v.npy is not complete"):
        client.semantic_search(QUERIES, output)


ONES = np.ones((2, 24), np.float32)
BROKEN = np.array([[1] * 24, [np.nan, np.inf] * 12], np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.similarity("a", ["b"]), BadInputType, "a is a str: for one sentence"),
        (lambda c: c.similarity(["a"], [""]), BadInputValue, r"b\[0\] is blank"),
        (lambda c: c.similarity(ONES, ONES[:, :4]), BadInputValue, "a has 24 dimensions, and b 4"),
        (lambda c: c.similarity(ONES[0], ONES), BadInputType, "a must be texts, or an array of"),
        (lambda c: c.similarity(ONES, ONES, function="x"), BadInputValue, "function must be one"),
        (
            lambda c: c.similarity([[0.5] * 24], ["a"]),
            BadInputType,
            "a is a list of list: it must be a list of str, or a NumPy array of vectors",
        ),
        (lambda c: c.similarity(["a"], ["b"] * 5000 + [""]), BadInputValue, r"b\[5000\] is blank"),
        (lambda c: c.similarity(BROKEN, ONES), BadInputValue, "row 1 of a has NaN or infinite num"),
        (lambda c: c.similarity(ONES, -BROKEN), BadInputValue, "row 1 of b has NaN or infinite"),
        (
            lambda c: c.semantic_search(ONES, BROKEN),
            BadInputValue,
            "row 1 of corpus has NaN",
        ),
        (lambda c: c.semantic_search(["a"], BROKEN), BadInputValue, "row 1 of corpus has NaN"),
        (
            lambda c: c.semantic_search(ONES, ONES, rescore_with=BROKEN),
            BadInputValue,
            "row 1 of rescore_with has NaN or infinite numbers",
        ),
        (
            lambda c: c.semantic_search(["a"], ONES[:, :4]),
            BadInputValue,
            "the model's vectors have 24 dimensions, and corpus has 4: encode the queries with",
        ),
        (
            lambda c: c.semantic_search(["a"], ONES.astype("i1")),
            BadInputValue,
            "and corpus has 192: if they are int8 vectors, not binary ones, give int8_ranges",
        ),
        (lambda c: c.semantic_search(["a"], ONES, 0), BadInputValue, "top_k is 0"),
        (lambda c: c.semantic_search(["a"], ONES[0]), BadInputType, "corpus must be an array of"),
        (lambda c: c.semantic_search(["a"], "x.npy"), BadInputValue, "x.npy cannot be read: No"),
        (lambda c: c.semantic_search(["a"], __file__), BadInputValue, "is not a .npy file of num"),
        (lambda c: c.semantic_search(ONES, ONES.astype(int)), BadInputType, "numbers of type int"),
        (
            lambda c: c.semantic_search(ONES[:, :4], ONES),
            BadInputValue,
            "queries have 4 dimensions, and corpus has 24",
        ),
        (
            lambda c: c.semantic_search(ONES, ONES, rescore_with=ONES[:1]),
            BadInputValue,
            "rescore_with must have the float vectors of corpus",
        ),
        (
            lambda c: c.semantic_search(ONES, ONES.astype("i1"), int8_ranges=__file__),
            BadInputValue,
            "has no ranges as bertq int8-ranges",
        ),
    ],
)
def test_mistakes(client: BertClient, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(client)


def test_models_without_vectors(redis_url: str) -> None:
    for name, message in (("cross", "cross returns scores"), ("sparse", "sparse returns sparse")):
        with (
            BertClient(redis_url=redis_url, model=name, timeout=60) as client,
            pytest.raises(BadInputValue, match=message),
        ):
            client.similarity(["a"], ["b"])


def test_vectors_without_workers(redis_url: str) -> None:
    with BertClient(redis_url=redis_url, model="absent", timeout=5) as client:
        with pytest.raises(NoWorker, match="pass function"):
            client.similarity(ONES, ONES)
        assert client.similarity(ONES, ONES, function="dot").tolist() == [[24, 24], [24, 24]]
