"""``/v1/models``: the fields of each model."""

import dataclasses

import openai
import pytest
from redis import Redis

from bertq.state import worker_info
from tests.client.stub import info
from tests.gateway.conftest import Gateway, StartGateway


def test_the_task_of_a_model(start_gateway: StartGateway, redis: Redis) -> None:
    worker = dataclasses.replace(
        info(["bertq"]),
        description="mean of the last layer, 256 tokens, L2-normalized (from modules.json)",
        normalized=True,
        prompts=["query", "document"],
        default_prompt="document",
        similarity="cosine",
        max_seq_len=256,
        row_shape=[384],
        started=1234.5,
    )
    worker_info.publish(redis, worker)
    (entry,) = start_gateway().http.get("/v1/models").json()["data"]
    assert entry == {
        "id": "stub",
        "object": "model",
        "alias_of": None,
        "created": 1234,
        "owned_by": "bertq",
        "description": worker.description + ", float32",
        "task": "embed",
        "dimensions": 384,
        "max_input_tokens": 256,
        "normalized": True,
        "prompts": ["query", "document"],
        "default_prompt": "document",
        "similarity": "cosine",
        "labels": [],
    }


def test_an_alias_is_listed(start_gateway: StartGateway, redis: Redis) -> None:
    worker_info.publish(redis, info(["bertq"]))
    gateway = start_gateway(aliases={"openai/small": "stub", "other": "not served"})
    listed = gateway.http.get("/v1/models").json()["data"]
    assert [(entry["id"], entry["alias_of"]) for entry in listed] == [
        ("openai/small", "stub"),
        ("stub", None),
    ]
    with openai.OpenAI(base_url=gateway.url, api_key="any") as client:
        assert client.models.retrieve("stub").to_dict() == listed[1]
        assert client.models.retrieve("openai/small").to_dict() == listed[0]
        for unknown in ("other", "openai", "openai/small/"):
            with pytest.raises(openai.NotFoundError, match="use one of openai/small, stub"):
                client.models.retrieve(unknown)
    for path in ("/v1/models/openai/small", "/v1/models/openai%2Fsmall"):
        assert gateway.http.get(path).json() == listed[0]
    answer = gateway.http.get("/v1/models/other")
    assert answer.json()["error"] == {
        "message": "no such model: use one of openai/small, stub",
        "type": "not_found_error",
        "param": "model",
        "code": "model_not_found",
    }
    metrics = gateway.http.get("/metrics").text
    assert 'requests_total{route="/v1/models/{model}",status="404"} 4.0' in metrics


def test_a_model_without_workers(gateway: Gateway, redis: Redis) -> None:
    assert gateway.http.get("/v1/models/stub").status_code == 503
    assert gateway.http.get("/v1/models").json()["data"] == []


def test_a_worker_of_an_older_version(start_gateway: StartGateway, redis: Redis) -> None:
    worker_info.publish(redis, dataclasses.replace(info(["bertq"]), row_shape=[None, 4]))
    (entry,) = start_gateway().http.get("/v1/models").json()["data"]
    assert entry["description"] == "REDUCE_MEAN of -2, max_seq_len 25, float32"
    assert (entry["task"], entry["dimensions"], entry["prompts"]) == ("embed", 4, [])
