"""Options of ``/v1/embeddings`` with the rows of a tiny model."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from bertq_bert import Encoder
from tests.gateway.conftest import Gateway, running
from tests.tiny_service import TinyService, tiny_service

TEXTS = ["who keeps the light", "the light of the old harbour"]


@pytest.fixture(scope="module")
def service(module_redis_url: str) -> Iterator[TinyService]:
    with tiny_service(module_redis_url, {None: "bert-prompt"}) as made:
        encoder = made.encoders[None]
        vectors = encoder.encode(TEXTS, prompt="")
        ranges = np.stack([vectors.min(axis=0) - 0.1, vectors.max(axis=0) + 0.1])
        object.__setattr__(encoder, "int8_ranges", ranges)
        yield made


@pytest.fixture(scope="module")
def gateway(module_redis_url: str, service: TinyService) -> Iterator[Gateway]:
    with running(module_redis_url) as made:
        yield made


@pytest.fixture
def encoder(service: TinyService) -> Encoder:
    encoder = service.encoders[None]
    assert encoder is not None
    return encoder


def post(gateway: Gateway, **fields: Any) -> httpx.Response:
    body = {"model": "bert-prompt", "input": TEXTS, **fields}
    return gateway.http.post("/v1/embeddings", json=body)


def vectors(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [entry["embedding"] for entry in answer.json()["data"]]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"dimensions": 24}, {}),
        ({"dimensions": 8}, {"dimensions": 8}),
        ({"output_dimension": 8}, {"dimensions": 8}),
        ({"input_type": "query"}, {"input_type": "query"}),
        ({"input_type": "search_query"}, {"input_type": "query"}),
        ({"input_type": "document"}, {"input_type": "document"}),
        ({"input_type": "clustering"}, {}),
        ({"task": "retrieval.passage"}, {"input_type": "document"}),
        ({"prompt_name": "query"}, {"prompt_name": "query"}),
        ({"normalize": True}, {"normalize": True}),
        ({"normalized": True, "dimensions": 8}, {"normalize": True, "dimensions": 8}),
        ({"output_dtype": "float"}, {}),
        ({"output_dtype": "int8"}, {"precision": "int8"}),
        ({"output_dtype": "uint8"}, {"precision": "uint8"}),
        ({"output_dtype": "binary"}, {"precision": "binary"}),
        ({"embedding_type": "ubinary"}, {"precision": "ubinary"}),
    ],
)
def test_options(gateway: Gateway, encoder: Encoder, fields: Any, options: Any) -> None:
    expected = encoder.encode(TEXTS, **options)
    tolerance = 1 if options.get("precision") in ("int8", "uint8") else 1e-5
    answer = post(gateway, **fields)
    np.testing.assert_allclose(np.array(vectors(answer), float), expected, atol=tolerance)
    assert answer.headers["x-model-fingerprint"] == encoder.fingerprint
    packed = [
        np.frombuffer(base64.b64decode(text), expected.dtype)
        for text in vectors(post(gateway, encoding_format="base64", **fields))
    ]
    np.testing.assert_allclose(np.array(packed, float), expected, atol=tolerance)


def test_vectors_are_normalized_as_the_model_says(gateway: Gateway, encoder: Encoder) -> None:
    assert not np.allclose(np.linalg.norm(vectors(post(gateway)), axis=1), 1)
    (entry,) = gateway.http.get("/v1/models").json()["data"]
    assert entry["normalized"] is False


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"dimensions": 25}, "dimensions", "dimensions is 25, and bert-prompt has 24"),
        ({"prompt_name": "x"}, "prompt_name", "model bert-prompt has no prompt of that name: it"),
        ({"input_type": "x"}, "input_type", "model bert-prompt has no prompt of that name: it"),
        ({"output_dtype": "int8", "dimensions": 8}, "output_dtype", "the ranges of the model"),
    ],
)
def test_what_the_model_lacks(gateway: Gateway, fields: Any, param: str, message: str) -> None:
    answer = post(gateway, **fields)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(message)
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("fields", [{"truncate": "error"}, {"truncation": False}])
def test_long_texts_are_refused(gateway: Gateway, fields: Any) -> None:
    long = ["short", "long " * 200]
    answer = post(gateway, input=long, **fields)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("input[1] has more tokens than the 96")
    for value in ("right", "left", True):
        answer = post(gateway, input=long, truncate=value)
        assert answer.headers["x-truncated-inputs"] == '1;indices="1"'


def test_the_client_of_openai(gateway: Gateway, encoder: Encoder) -> None:
    with openai.OpenAI(base_url=gateway.url, api_key="any", max_retries=0) as client:
        found = client.embeddings.create(
            model="bert-prompt", input=TEXTS, dimensions=8, extra_body={"input_type": "query"}
        )
    expected = encoder.encode(TEXTS, dimensions=8, input_type="query")
    np.testing.assert_allclose([entry.embedding for entry in found.data], expected, atol=1e-5)
