"""Texts with more tokens than the model reads: reported, counted, or refused."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.client.stub import MAX_WORDS, Stub
from tests.gateway.conftest import Gateway, StartGateway
from tests.waiting import eventually

LONG = "word " * MAX_WORDS + "more"


def post(gateway: Gateway, path: str, texts: list[Any], **options: Any) -> httpx.Response:
    """Send texts to one of the two APIs."""
    field = {"/v1/embeddings": "input", "/encode": "texts"}[path]
    return gateway.http.post(path, json={"model": "stub", field: texts, **options})


@pytest.mark.parametrize("path", ["/v1/embeddings", "/encode"])
def test_the_header_lists_truncated_texts(gateway: Gateway, stub: Stub, path: str) -> None:
    answer = post(gateway, path, ["a", LONG, "b", LONG])
    assert answer.status_code == 200
    assert answer.headers["x-truncated-inputs"] == '2;indices="1 3"'
    assert "x-truncated-inputs" not in post(gateway, path, ["a"]).headers
    many = post(gateway, path, [f"{LONG} {number}" for number in range(150)])
    count, indices = many.headers["x-truncated-inputs"].split(";indices=")
    assert count == "150"
    assert indices.strip('"').split() == [str(number) for number in range(100)]
    assert "bertq_http_truncated_inputs_total 152.0" in gateway.http.get("/metrics").text


@pytest.mark.parametrize("path", ["/v1/embeddings", "/encode"])
@pytest.mark.parametrize("policy", ["right", "left", "error"])
def test_a_request_chooses(start_gateway: StartGateway, stub: Stub, path: str, policy: str) -> None:
    default = "right" if policy == "error" else "error"
    answer = post(start_gateway(truncate=default), path, [LONG], truncate=policy)
    assert answer.status_code == (422 if policy == "error" else 200)
    assert stub.options[0].get("truncate", "right") == policy


@pytest.mark.parametrize(("path", "field"), [("/v1/embeddings", "input"), ("/encode", "texts")])
def test_the_gateway_refuses_long_texts(
    start_gateway: StartGateway, stub: Stub, path: str, field: str
) -> None:
    gateway = start_gateway(truncate="error")
    answer = post(gateway, path, ["a", LONG, "b", LONG], truncate=None)
    assert answer.status_code == 422
    assert answer.json()["error"] == {
        "message": f"{field}[1], {field}[3] have more tokens than the {MAX_WORDS} that the model "
        "reads, special tokens included: shorten the texts, or let them be cut (truncate)",
        "type": "invalid_request_error",
        "param": field,
        "code": "sentence_too_long",
    }
    many = post(gateway, path, [f"{LONG} {number}" for number in range(150)])
    assert f"{field}[99] and 50 more have" in many.json()["error"]["message"]
    assert post(gateway, path, ["a"]).status_code == 200
    tokens = {"texts": [["word"] * (MAX_WORDS + 1)], "is_tokenized": True}
    answer = gateway.http.post("/encode", json=tokens)
    assert answer.json()["error"]["message"].startswith("texts[0] has more tokens")


def test_a_long_text_fails_no_other_request(start_gateway: StartGateway, stub: Stub) -> None:
    gateway = start_gateway(truncate="error")
    stub.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(gateway.embed, "first")
        eventually(lambda: stub.asked)
        sent = [pool.submit(gateway.embed, "a", LONG if n % 5 == 0 else f"{n}") for n in range(15)]
        eventually(lambda: "under_way 17.0" in gateway.http.get("/metrics").text)
        stub.gate.set()
        for number, answer in enumerate(sent):
            assert answer.result().status_code == (422 if number % 5 == 0 else 200)
        assert first.result().status_code == 200


def test_with_the_client_of_openai(gateway: Gateway, stub: Stub) -> None:
    with openai.OpenAI(base_url=gateway.url, api_key="any", max_retries=0) as client:
        answer = client.embeddings.with_raw_response.create(model="stub", input=["a", LONG])
        assert answer.headers["x-truncated-inputs"] == '1;indices="1"'
        with pytest.raises(openai.UnprocessableEntityError, match=r"input\[1\] has") as caught:
            client.embeddings.create(
                model="stub", input=["a", LONG], extra_body={"truncate": "error"}
            )
    assert (caught.value.code, caught.value.param) == ("sentence_too_long", "input")
