"""``/v1`` with the client of OpenAI."""

import base64
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
import pytest
from redis import Redis

from bertq.errors import RemoteError
from bertq.state import worker_info
from bertq_gateway import errors
from tests.client.stub import Stub, info, rows
from tests.gateway.conftest import Gateway, StartGateway
from tests.waiting import eventually


def client(gateway: Gateway, key: str = "any", **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key=key, max_retries=0, **options)


def test_the_vectors(gateway: Gateway, stub: Stub) -> None:
    texts = ["first do it", "then do it right", "first do it"]
    with client(gateway) as asking:
        # The client requests base64 by default.
        for found in (
            asking.embeddings.create(model="stub", input=texts),
            asking.embeddings.create(model="stub", input=texts, encoding_format="float"),
        ):
            vectors = np.array([entry.embedding for entry in found.data], np.float32)
            np.testing.assert_array_equal(vectors, rows(texts))
            assert [entry.index for entry in found.data] == [0, 1, 2]
            assert found.model == "stub"
            assert found.usage.prompt_tokens == found.usage.total_tokens == 3 + 4 + 3


def test_one_sentence(gateway: Gateway, stub: Stub) -> None:
    with client(gateway) as asking:
        found = asking.embeddings.create(model="stub", input="a", dimensions=4, user="me")
    assert found.data[0].embedding == rows(["a"])[0].tolist()


def test_base64_is_that_of_float32(gateway: Gateway, stub: Stub) -> None:
    answer = gateway.embed("a", encoding_format="base64").json()
    decoded = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(decoded, rows(["a"])[0])


def test_no_sentence_is_a_pair(gateway: Gateway, stub: Stub) -> None:
    assert gateway.embed("a ||| b").status_code == 200
    assert stub.options == [{"count_tokens": True, "pairs": False}]


@pytest.mark.parametrize("value", [None, ""])
def test_no_encoding_format_is_the_default(gateway: Gateway, stub: Stub, value: str | None) -> None:
    (entry,) = gateway.embed("a", encoding_format=value).json()["data"]
    assert entry["embedding"] == rows(["a"])[0].tolist()


def test_null_is_the_default(gateway: Gateway, stub: Stub) -> None:
    names = (
        "encoding_format", "dimensions", "truncate", "user", "input_type", "prompt_name",
        "normalize", "output_dtype", "output_dimension", "truncation", "task", "normalized",
        "embedding_type",
    )  # fmt: skip
    assert gateway.embed("a", **dict.fromkeys(names)).status_code == 200


@pytest.mark.parametrize(("task", "what"), [("score", "scores"), ("sparse", "sparse rows")])
def test_a_model_that_gives_no_vectors(
    gateway: Gateway, stub: Stub, redis: Redis, task: str, what: str
) -> None:
    worker_info.publish(redis, dataclasses.replace(info(["bertq", "bertq.small"]), task=task))
    answer = gateway.embed("a")
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == f"stub returns {what}, not vectors"
    assert stub.options == []


def test_sparse_rows_are_no_embeddings(gateway: Gateway, stub: Stub) -> None:
    stub.is_sparse = True
    answer = gateway.embed("a")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "model_changed"


def test_the_models(gateway: Gateway, stub: Stub) -> None:
    with client(gateway) as asking:
        (model,) = asking.models.list().data
    assert (model.id, model.owned_by) == ("stub", "bertq")


def test_an_alias(start_gateway: StartGateway, stub: Stub) -> None:
    gateway = start_gateway(aliases={"text-embedding-3-small": "stub"})
    with client(gateway) as asking:
        found = asking.embeddings.create(model="text-embedding-3-small", input="a")
        assert found.model == "stub"
        with pytest.raises(openai.NotFoundError, match="no such model: use one of stub"):
            asking.embeddings.create(model="text-embedding-3-large", input="a")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input": []}, "input: List should have at least 1 item"),
        ({"input": ""}, r"input\[0\] is blank"),
        ({"input": "  "}, r"input\[0\] is blank"),
        ({"input": ["a", "\n"]}, r"input\[1\] is blank"),
        ({"input": ["a", 1]}, "input.* valid string"),
        ({"input": [True]}, "input.* valid string"),
        ({"input": 1}, "input: token ids differ"),
        ({"input": [1, 2]}, "input: .* in LangChain set check_embedding_ctx_length=False"),
        ({"input": [[1, 2]]}, "input: .* send text; in LangChain set"),
        ({"input": None}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"truncate": "middle"}, "truncate: Input should be 'right', 'left' or 'error'"),
        ({"dimensions": 5}, "dimensions is 5, and stub has 4"),
        ({"output_dimension": 5}, "output_dimension is 5, and stub has 4"),
        ({"dimensions": 3, "output_dimension": 3}, "dimensions and output_dimension are given"),
        ({"input_type": "query", "task": "text-matching"}, "input_type and task are given: send"),
        ({"input_type": "query", "prompt_name": "x"}, "prompt_name and input_type are given"),
        ({"output_dtype": "float64"}, "output_dtype: Input should be 'float', 'int8', 'uint8'"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_wrong_requests(gateway: Gateway, stub: Stub, wrong: Any, message: str) -> None:
    with client(gateway) as asking:
        asked = {"model": "stub", "input": "secret", **wrong}
        with pytest.raises(openai.UnprocessableEntityError, match=message) as caught:
            asking.post("/embeddings", body=asked, cast_to=object)
    assert caught.value.type == "invalid_request_error"
    assert "secret" not in str(caught.value)


def test_unknown_fields(start_gateway: StartGateway, stub: Stub) -> None:
    fields = {"late_chunking": None, "x" * 1000: 4}
    assert start_gateway().embed("a", **fields).status_code == 200
    strict = start_gateway(strict=True)
    assert strict.embed("a", user="me", task=None).status_code == 200
    for name, value in fields.items():
        answer = strict.embed("secret", **{name: value})
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (name[:100], "extra_forbidden")
        assert error["message"] == f"{name[:100]}: there is no such field"


def test_the_header_names_the_model(gateway: Gateway, stub: Stub) -> None:
    assert gateway.embed("a").headers["x-model-fingerprint"] == "f"
    answer = gateway.http.post("/encode", json={"texts": ["a"]})
    assert answer.headers["x-model-fingerprint"] == "f"


def test_half_of_an_emoji(gateway: Gateway, stub: Stub) -> None:
    half = r"\ud83d"
    whole = half + r"\ude00"

    def post(path: str, body: str) -> Any:
        headers = {"Content-Type": "application/json"}
        return gateway.http.post(path, content=body.encode(), headers=headers)

    for text, vector in ((f"a{half}b", rows(["ab"])), (f"a{whole}", rows(["a\N{GRINNING FACE}"]))):
        answer = post("/v1/embeddings", f'{{"model": "stub", "input": ["{text}", "c"]}}').json()
        assert answer["data"][0]["embedding"] == vector[0].tolist()
        answer = post("/encode", f'{{"texts": ["{text}", "c"], "id": "{half}x"}}').json()
        assert (answer["id"], answer["result"][0]) == ("x", vector[0].tolist())
        tokens = post("/encode", f'{{"texts": [["{text}"]], "is_tokenized": true}}').json()
        assert tokens["result"] == vector.tolist()
    for path, field in (("/v1/embeddings", "input"), ("/encode", "texts")):
        blank = post(path, f'{{"model": "stub", "{field}": ["a", "{half}"]}}')
        assert blank.status_code == 422
        assert blank.json()["error"]["message"].startswith(f"{field}[1] is blank")
    named = post("/v1/embeddings", f'{{"model": "stub", "input": "a", "{half}": 1}}')
    assert named.status_code == 422
    unknown = post("/v1/embeddings", f'{{"model": "{half}", "input": "a"}}')
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_a_key(start_gateway: StartGateway, stub: Stub) -> None:
    key = "0123456789abcdef"
    gateway = start_gateway(api_keys=frozenset({key, "another key of 16"}))
    with client(gateway, key) as asking:
        assert asking.embeddings.create(model="stub", input="a").data
    for wrong in ("0123456789abcdee", "0123456789abcdeé", "x"):
        header = {b"Authorization": f"Bearer {wrong}".encode()}
        answer = gateway.http.get("/v1/models", headers=header)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    with client(gateway, "wrong") as asking, pytest.raises(openai.AuthenticationError):
        asking.models.list()
    assert gateway.http.get("/v1/models").headers["www-authenticate"] == "Bearer"
    assert gateway.http.get("/v1/models", headers={"Authorization": key}).status_code == 401
    assert gateway.http.get("/metrics").status_code == 401
    assert gateway.http.get("/healthz").status_code == 200


def test_small_requests_share_chunks(gateway: Gateway, stub: Stub) -> None:
    stub.gate.clear()
    with ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(gateway.embed, f"number {n}") for n in range(40)]
        eventually(lambda: stub.asked)
        # All gateways, and the requesting one.
        eventually(lambda: "under_way 41.0" in gateway.http.get("/metrics").text)
        stub.gate.set()
        for n, answer in enumerate(answers):
            (entry,) = answer.result().json()["data"]
            assert entry["embedding"] == rows([f"number {n}"])[0].tolist()
    assert len(stub.chunks) < 40


def test_tokens_of_requests_that_share_a_chunk(gateway: Gateway, stub: Stub) -> None:
    stub.gate.clear()
    with ThreadPoolExecutor(30) as pool:
        texts = {n: " ".join(["word"] * (n % 7 + 1)) + str(n) for n in range(30)}
        answers = {n: pool.submit(gateway.embed, text, text) for n, text in texts.items()}
        eventually(lambda: stub.asked)
        stub.gate.set()
        for n, answer in answers.items():
            assert answer.result().json()["usage"]["prompt_tokens"] == 2 * (n % 7 + 1)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("NoPairs", 422),
        ("BadInputValue", 422),
        ("UnsuitedRows", 422),
        ("PoisonedChunk", 500),
        ("ResourceExhausted", 500),
    ],
)
def test_status_of_errors_of_a_worker(name: str, status: int) -> None:
    assert errors.to_refused(RemoteError(name, "why", "job-0")).status == status
