"""``/v1/models``: the fields of each model."""

import dataclasses

from redis import Redis

from bertq.state import worker_info
from tests.client.stub import info
from tests.gateway.conftest import StartGateway


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


def test_a_worker_of_an_older_version(start_gateway: StartGateway, redis: Redis) -> None:
    worker_info.publish(redis, dataclasses.replace(info(["bertq"]), row_shape=[None, 4]))
    (entry,) = start_gateway().http.get("/v1/models").json()["data"]
    assert entry["description"] == "REDUCE_MEAN of -2, max_seq_len 25, float32"
    assert (entry["task"], entry["dimensions"], entry["prompts"]) == ("embed", 4, [])
