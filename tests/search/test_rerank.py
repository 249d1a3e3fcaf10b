"""Reranking with tiny cross-encoders, compared with sentence-transformers' scores."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import BadInputType, BadInputValue, ClientClosed, NoWorker, SentenceTooLong
from bertq.protocol import keys, limits
from tests.tiny_service import MODELS, TinyService, tiny_service

#: Models by the names of their directories.
NAMES = ["cross-bert", "cross-bert-identity", "cross-xlmr-old", "cross-bert-3", "bert-mean"]


@pytest.fixture(scope="module")
def service(module_redis_url: str) -> Iterator[TinyService]:
    with tiny_service(module_redis_url, {name: name for name in NAMES}) as running:
        yield running


@pytest.fixture
def redis_url(module_redis_url: str, service: TinyService) -> str:
    return module_redis_url


@pytest.fixture
def client(redis_url: str) -> Iterator[BertClient]:
    with BertClient(redis_url=redis_url, model="cross-bert", timeout=60) as made:
        yield made


MAX = limits.MAX_SENTENCE_CHARACTERS * 2 // 3
DOCUMENTS = ["the light of the old harbour", "in the beginning", "and the evening"]


@pytest.mark.parametrize("name", ["cross-bert", "cross-bert-identity", "cross-xlmr-old"])
def test_scores_are_those_of_sentence_transformers(redis_url: str, name: str) -> None:
    expected = np.load(MODELS / f"{name}.npz")["scores"]
    with BertClient(redis_url=redis_url, model=name, timeout=60, check_length=False) as client:
        for number, (query, document) in enumerate(json.loads((MODELS / "pairs.json").read_text())):
            if query and document:
                (found,) = client.rerank(query, [document])
                assert found.index == 0
                assert found.score == pytest.approx(expected[number], abs=1e-5)


def test_the_best_come_first(client: BertClient, service: TinyService) -> None:
    query = "who keeps the light"
    documents = [f"{text} {number}" for number in range(200) for text in DOCUMENTS]
    scores = client.encode([(query, document) for document in documents])[:, 0]
    found = client.rerank(query, documents)
    assert [document.index for document in found] == np.argsort(-scores, kind="stable").tolist()
    np.testing.assert_allclose([document.score for document in found], np.sort(scores)[::-1])
    service.chunks.clear()
    best = client.rerank(query, tuple(documents), 5, progress=True)
    np.testing.assert_allclose([d.score for d in best], [d.score for d in found[:5]], atol=1e-6)
    assert sum(rows for _, rows in service.chunks) == len(set(documents))
    # Documents with equal scores stay in the order of the caller.
    assert [document.index for document in client.rerank(query, ["b", "a", "b", "b"])] in (
        [0, 2, 3, 1],
        [1, 0, 2, 3],
    )


def test_other_models_are_refused(redis_url: str, service: TinyService) -> None:
    service.chunks.clear()
    for name, message in (
        ("bert-mean", "model bert-mean returns vectors, not scores: reranking needs a cross-enc"),
        (
            "cross-bert-3",
            r"model cross-bert-3 has 3 labels \(.*\): reranking needs a cross-encoder",
        ),
    ):
        with (
            BertClient(redis_url=redis_url, model=name, timeout=60) as client,
            pytest.raises(BadInputValue, match=message),
        ):
            client.rerank("a query", DOCUMENTS)
    assert not service.chunks


def test_a_model_that_is_not_known_before_its_answer(redis_url: str, service: TinyService) -> None:
    with (
        Redis.from_url(redis_url) as redis,
        BertClient(redis_url=redis_url, model="cross-bert-3", timeout=60) as client,
    ):
        redis.delete(keys.worker("cross-bert-3@test"))
        try:
            with pytest.raises(BadInputValue, match="the model returned rows of 3 numbers"):
                client.rerank("a query", DOCUMENTS)
        finally:
            service.publish("cross-bert-3")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("", DOCUMENTS), BadInputValue, "query is blank"),
        ((["a"], DOCUMENTS), BadInputType, "query is a list: it must be a str"),
        (("a", []), BadInputValue, "documents is an empty list"),
        (("a", "b"), BadInputType, r"documents is a str: for one sentence give a list of one"),
        (("a", ["b", " "]), BadInputValue, r"documents\[1\] is blank"),
        (("a", ["b", ("c", "d")]), BadInputType, r"documents\[1\] is a tuple: it must be a str"),
        (("a", ["b"] * 5000 + [""]), BadInputValue, r"documents\[5000\] is blank"),
        (("\ud83d", DOCUMENTS), BadInputValue, "query is blank"),
        (("a", ["b"] * 5000 + ["\ud83d"]), BadInputValue, r"documents\[5000\] is blank"),
        (("a" * MAX, ["b", "c" * MAX]), BadInputValue, r"query and documents\[1\] have \d+ char"),
        (("a", iter("b")), BadInputType, "documents is a str_ascii_iterator: .* array of str$"),
        (("a", ["b"], 0), BadInputValue, "top_n is 0: it must be a whole number above zero"),
        (("a", ["b"], 1.5), BadInputType, "top_n must be a whole number, not a float"),
        (("a", ["b"], True), BadInputType, "top_n must be a whole number, not a bool"),
    ],
)
def test_invalid_arguments(
    client: BertClient, arguments: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.rerank(*arguments)


def test_documents_that_are_too_long(client: BertClient) -> None:
    with pytest.raises(SentenceTooLong, match=r"^documents\[1\]: more tokens than") as caught:
        client.rerank("a query", ["short", "long " * 200], truncate="error")
    assert caught.value.rows == (1,)


def test_queries_of_a_stream(client: BertClient) -> None:
    queries = [
        (f"query {n}", [f"{text} {n}" for text in DOCUMENTS * (1 + n % 3)]) for n in range(9)
    ]
    found = list(client.rerank_stream(iter(queries), 2))
    assert [[d.index for d in ranked] for ranked in found] == [
        [d.index for d in client.rerank(query, documents, 2)] for query, documents in queries
    ]
    wrong = [*queries[:2], ("a query", ["a", "long " * 200, "b"])]
    with pytest.raises(
        SentenceTooLong, match=r"documents\[1\] of query 3: more tokens than the 96"
    ):
        list(client.rerank_stream(wrong, truncate="error"))


@pytest.mark.parametrize(
    ("iterable", "error", "message"),
    [
        (None, BadInputType, "iterable is a NoneType: it must have a pair of a query and its docu"),
        ("ab", BadInputType, "iterable is a str"),
        ([1], BadInputType, r"query 1: it is a int: it must be a tuple \(query, documents\)"),
        (["ab"], BadInputType, "query 1: it is a str: it must be a tuple"),
        ([("a", ["b"]), ("a", ["b"], 3)], BadInputType, "query 2: it is a tuple of 3: it must be"),
        ([("a", 3)], BadInputType, "query 1: documents is a int: it must be a list, tuple or arr"),
        ([(3, ["a"])], BadInputType, "query 1: query is a int: it must be a str"),
        ([("a query", [""])], BadInputValue, r"query 1: documents\[0\] is blank"),
    ],
)
def test_elements_of_a_stream(
    client: BertClient, iterable: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(client.rerank_stream(iterable))


def test_a_closed_client(client: BertClient) -> None:
    client.close()
    with pytest.raises(ClientClosed):
        client.rerank("a query", DOCUMENTS)


def test_without_workers(redis_url: str) -> None:
    with (
        BertClient(redis_url=redis_url, model="absent", timeout=0.3) as client,
        pytest.raises(NoWorker),
    ):
        client.rerank("a query", DOCUMENTS)
