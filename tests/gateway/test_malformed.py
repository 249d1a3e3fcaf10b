"""Bodies that no client should send: each gets an answer or an error that says what is wrong."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from bertq_bert import Encoder
from bertq_gateway.batches.settings import BatchSettings
from tests.gateway.conftest import Gateway, running
from tests.tiny_service import tiny_service

#: A body of each route, for the models of the service.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": ["a"], "model": "bert-prompt"},
    "/embed": {"inputs": ["a"]},
    "/embed_all": {"inputs": ["a"]},
    "/embed_sparse": {"inputs": ["a"]},
    "/predict": {"inputs": "a"},
    "/rerank": {"query": "a", "texts": ["b", "c"]},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}},
    "/tokenize": {"inputs": "a"},
    "/decode": {"ids": [1]},
    "/": {"inputs": "a"},
    "/v1/embed": {"texts": ["a"], "model": "bert-prompt"},
    "/v2/embed": {"texts": ["a"], "model": "bert-prompt"},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v2/rerank": {"query": "a", "documents": ["b"]},
    "/encode": {"id": 1, "texts": ["a"]},
    "/v1/batches": {"input_file_id": "a", "endpoint": "/v1/embeddings", "completion_window": "24h"},
}

HALF, HUGE = "b \ud83d c", 10**30


@pytest.fixture(scope="module")
def gateway(module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    models: dict[str | None, str | Encoder] = {None: "bert-prompt", "ranker": "cross-bert"}
    batches = BatchSettings(tmp_path_factory.mktemp("batches"))
    with (
        tiny_service(module_redis_url, models),
        running(module_redis_url, batches=batches) as made,
    ):
        yield made


def send(gateway: Gateway, path: str, body: Any, **headers: str) -> tuple[int, str]:
    """The status of an answer, and its message if it is an error."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | headers
    answer = gateway.http.post(path, content=content, headers=headers)
    found = answer.json()
    if answer.status_code < 400:
        return answer.status_code, answer.text
    error = found.get("error", found.get("message"))
    return answer.status_code, error["message"] if isinstance(error, dict) else error


@pytest.mark.parametrize("path", BODIES)
def test_wrong_bodies_of_every_route(gateway: Gateway, path: str) -> None:
    valid = json.dumps(BODIES[path]).encode()
    for body, headers, message in (
        (valid, {"Content-Type": ""}, "Content-Type: application/json"),
        (valid, {"Content-Type": "text/plain"}, "Content-Type: application/json"),
        ([], {}, "body: it must be a JSON object"),
        (b"{", {}, "body: no JSON at character 1: Expecting property name"),
        (gzip.compress(valid), {"Content-Encoding": "gzip"}, "without a Content-Encoding"),
        (b'{"a": "\xff"}', {}, "the body cannot be read: it must be JSON in UTF-8"),
        (b'{"a":' + b"[" * 100_000, {}, "the body cannot be read"),
    ):
        status, found = send(gateway, path, body, **headers)
        assert status in (400, 422), found
        assert message in found
        # There, GET lists.
        assert gateway.http.get(path).status_code == (200 if path == "/v1/batches" else 405)
    allowed = "GET, POST" if path in ("/", "/v1/batches") else "POST"
    assert f"use {allowed}" in gateway.http.put(path).text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("value", [HALF, HUGE, -HUGE, {"a": [HALF]}, None], ids=repr)
def test_no_value_of_a_field_is_a_bug(gateway: Gateway, path: str, value: Any) -> None:
    options = (
        "id", "model", "prompt_name", "input_type", "task", "dimensions", "top_n", "truncate",
        "output_dimension", "parameters", "encoding_format", "user", HALF,
    )  # fmt: skip
    for name in (*BODIES[path], *options):
        status, found = send(gateway, path, BODIES[path] | {name: value})
        assert status < 500, found


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/encode", {"id": HUGE, "texts": ["a"]}, f'"id": {HUGE}'),
        ("/encode", {"id": -(2**63) - 1, "texts": ["a"]}, '"id": -9223372036854775809'),
        ("/encode", {"id": HALF, "texts": [HALF]}, '"b  c"'),
        ("/v1/embed", {"texts": [HALF], "input_type": "query"}, '["b  c"]'),
        ("/v2/embed", {"texts": [HALF], "embedding_types": ["float", "binary"]}, '["b  c"]'),
        ("/rerank", {"query": "a", "texts": [HALF], "return_text": True}, '"text": "b  c"'),
        (
            "/v1/rerank",
            {"query": HALF, "documents": [HALF], "return_documents": True},
            '{"text": "b  c"}',
        ),
        (
            "/v2/rerank",
            {"query": "a", "documents": [{"text": "b", "n": HUGE}], "return_documents": True},
            f'{{"text": "b", "n": {HUGE}}}',
        ),
        (
            "/v1/rerank",
            {
                "query": "a",
                "documents": [{"text": "b", "n": json.loads("[" * 300 + "]" * 300)}],
                "return_documents": True,
            },
            "[" * 300 + "]" * 300,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value[0] == "/" else "",
)
def test_repeated_values(gateway: Gateway, path: str, body: Any, expected: str) -> None:
    status, found = send(gateway, path, body)
    assert status == 200, found
    assert expected in found


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/embeddings", {"input": ["a", 3], "model": "x"}, "input[1]: Input should be a valid"),
        ("/v1/embeddings", {"input": [None], "model": "x"}, "input[0]: Input should be a valid s"),
        ("/embed", {"inputs": ["a", {}]}, "inputs[1]: Input should be a valid string"),
        ("/embed", {"inputs": [3]}, "inputs: token ids differ from model to model: send text"),
        ("/predict", {"inputs": [["a"], ["b", 3]]}, "inputs[1][1]: Input should be a valid string"),
        ("/encode", {"texts": [["a"], ["b", 3]]}, "texts[1][1]: Input should be a valid string"),
        ("/encode", {"texts": ["a", ["b"]]}, "texts[1]: Input should be a valid string"),
        (
            "/encode",
            {"id": float("nan"), "texts": ["a"]},
            "id: Input should be a valid integer or a valid string",
        ),
        ("/decode", {"ids": [[1, 2], []]}, "ids[1]: List should have at least 1 item"),
        ("/decode", {"ids": [[1, 2], 3]}, "ids[1]: Input should be a valid list"),
        ("/decode", {"ids": [[1], [2, "a"]]}, "ids[1][1]: Input should be a valid integer"),
        (
            "/v1/embeddings",
            {"input": "a", "model": "x", "encoding_format": "x"},
            "encoding_format: Input should be 'float' or 'base64'",
        ),
        ("/v2/embed", {"texts": ["a", None]}, "texts[1]: Input should be a valid string"),
        ("/v2/embed", {"images": ["a"]}, "body: inputs and images are not supported: send texts"),
        ("/v1/rerank", {"query": "a", "documents": [None]}, "documents[0]: Input should be a vali"),
        ("/v2/rerank", {"query": "a", "documents": [{"a": "b"}]}, "documents[0].text: Field requi"),
        ("/similarity", {"inputs": {}}, "inputs.source_sentence: Field required"),
        (
            "/similarity",
            {"inputs": {"source_sentence": "a", "sentences": []}},
            "inputs.sentences: List should have at least 1 item",
        ),
        (
            "/similarity",
            {"inputs": {"source_sentence": "a", "sentences": ["b", 3]}},
            "inputs.sentences[1]: Input should be a valid string",
        ),
    ],
)
def test_an_error_names_the_value(gateway: Gateway, path: str, body: Any, message: str) -> None:
    status, found = send(gateway, path, body)
    assert status in (400, 422), found
    assert found.startswith(message), found


@pytest.mark.parametrize("name", ["absent", "a" * 5000])
@pytest.mark.parametrize("field", ["prompt_name", "input_type"])
def test_an_error_names_the_field_of_the_prompt(gateway: Gateway, field: str, name: str) -> None:
    body = {"input": "a", "model": "bert-prompt", field: name}
    answer = gateway.http.post("/v1/embeddings", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == field


def test_unknown_paths(gateway: Gateway) -> None:
    for path in ("/v1/nothing", "/nothing"):
        answer = gateway.http.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "no such path: /docs lists all"


def test_an_error_names_all_methods(gateway: Gateway) -> None:
    for path, methods in (("/v1/files/file-1", "GET, DELETE"), ("/v1/files", "GET, POST")):
        answer = gateway.http.put(path)
        assert answer.status_code == 405
        assert answer.json()["error"]["message"] == f"PUT is not allowed here: use {methods}"
        assert answer.headers["allow"] == methods


# Python parses and writes JSON up to depths that differ by the frames of the caller.
def test_values_of_any_depth(gateway: Gateway) -> None:
    seen = set()
    for depth in range(800, 1001, 8):
        deep = "[" * depth + "]" * depth
        document = f'{{"text": "b", "n": {deep}}}'
        body = f'{{"query": "a", "return_documents": true, "documents": [{document}]}}'
        headers = {"Content-Type": "application/json"}
        answer = gateway.http.post("/v1/rerank", content=body, headers=headers)
        assert answer.status_code in (200, 400), answer.text  # not parsed here: it is as deep
        seen.add(answer.status_code)
    assert 200 in seen
