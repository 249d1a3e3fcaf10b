"""``/encode`` and ``/status/server``, as bert-as-service has them."""

import dataclasses
from typing import Any

import httpx
import numpy as np
import pytest
from redis import Redis

from bertq.state import worker_info
from tests.client.stub import Stub, info, rows
from tests.gateway.conftest import Gateway


def encode(gateway: Gateway, **asked: Any) -> Any:
    """Ask for vectors; return the answer."""
    answer = gateway.http.post("/encode", json=asked)
    return answer.json() if answer.status_code == 200 else answer


@pytest.mark.parametrize("number", [123, "abc", None])
def test_encode(gateway: Gateway, stub: Stub, number: int | str | None) -> None:
    texts = ["hello world", "good day"]
    found = encode(gateway, id=number, texts=texts, is_tokenized=False)
    assert found["id"] == number
    assert found["status"] == 200
    np.testing.assert_array_equal(np.array(found["result"], np.float32), rows(texts))


def test_tokens(gateway: Gateway, stub: Stub) -> None:
    found = encode(gateway, id=1, texts=[["hello", "world"]], is_tokenized=True)
    np.testing.assert_array_equal(np.array(found["result"], np.float32), rows(["hello world"]))
    wrong = encode(gateway, id=1, texts=[["hello", "world"]])
    assert wrong.status_code == 422
    assert "is_tokenized" in wrong.json()["error"]["message"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a", "texts: Input should be a valid list"),
        ([], "texts: List should have at least 1 item"),
        ([1], "texts: token ids differ from model to model: send text"),
        (["a", " "], "texts[1] is blank"),
        (None, "texts: Input should be a valid list"),
    ],
)
def test_wrong_texts(gateway: Gateway, stub: Stub, texts: Any, message: str) -> None:
    wrong = encode(gateway, id=1, texts=texts)
    assert wrong.status_code == 422
    assert wrong.json()["error"]["param"] == "texts"
    assert wrong.json()["error"]["message"].startswith(message)


def test_null_is_the_default(gateway: Gateway, stub: Stub) -> None:
    names = ("id", "is_tokenized", "model", "truncate")
    assert encode(gateway, texts=["a"], **dict.fromkeys(names))["result"] == rows(["a"]).tolist()


def test_pairs_are_what_the_model_says(gateway: Gateway, stub: Stub) -> None:
    encode(gateway, id=1, texts=["a ||| b"])
    assert stub.options == [{"count_tokens": True}]


def test_sparse_rows(gateway: Gateway, stub: Stub) -> None:
    stub.is_sparse = True
    wrong = encode(gateway, id=1, texts=["a"])
    assert wrong.status_code == 422
    assert "the rows of stub are sparse" in wrong.json()["error"]["message"]


def test_the_status(gateway: Gateway, stub: Stub) -> None:
    encode(gateway, id=1, texts=["a"])
    status = gateway.http.get("/status/server").json()
    assert status["num_worker"] == 1
    assert status["statistic"]["num_data_request"] == 1
    assert status["workers"]["stub@test"]["model"] == "stub"


def test_several_models(gateway: Gateway, stub: Stub, redis: Redis) -> None:
    words = dataclasses.replace(
        info(["bertq.words", "bertq.words.small"]), node="words@test", model_name="words"
    )
    worker_info.publish(redis, words)
    assert len(encode(gateway, texts=["a"])["result"]) == 1  # that without a name
    assert {entry["id"] for entry in gateway.http.get("/v1/models").json()["data"]} == {
        "stub", "words"
    }  # fmt: skip
    other = encode(gateway, texts=["a"], model="other")
    assert other.status_code == 404
    worker_info.publish(redis, dataclasses.replace(words, node="more@test", model_name="more"))


def test_a_name_goes_before_that_of_a_directory(gateway: Gateway, stub: Stub, redis: Redis) -> None:
    named = dataclasses.replace(
        info(["bertq.stub", "bertq.stub.small"]), node="a@test", model_name="stub"
    )
    worker_info.publish(redis, named)
    with pytest.raises(httpx.ReadTimeout):  # no worker takes from its queue
        gateway.http.post("/encode", json={"texts": ["a"], "model": "stub"}, timeout=1)
    assert redis.llen("bertq.stub.small") == 1


def test_no_model_without_a_name(gateway: Gateway, redis: Redis) -> None:
    for name in ("one", "two"):
        made = info([f"bertq.{name}", f"bertq.{name}.small"])
        worker_info.publish(
            redis, dataclasses.replace(made, node=f"{name}@test", model_name=name, model="dir")
        )
    answer = encode(gateway, texts=["a"])
    assert answer.status_code == 422
    message = 'workers have several models: send "model", one of one, two'
    assert answer.json()["error"]["message"] == message
