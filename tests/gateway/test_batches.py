"""``/v1/files`` and ``/v1/batches`` with the client of OpenAI."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch, FileObject

from bertq_gateway.batches.settings import BatchSettings
from tests.client.stub import Stub, stub_worker
from tests.gateway.conftest import Gateway, running
from tests.waiting import eventually

ENDED = ("completed", "failed", "expired", "cancelled")
KEYS = frozenset({"first-key-0123456789", "other-key-0123456789"})


def settings(directory: Path, **more: Any) -> BatchSettings:
    """Settings with short times."""
    times = {"lease_seconds": 2, "poll_seconds": 0.2, "commit_seconds": 0.0}
    return BatchSettings(directory, **{**times, "block_texts": 8, **more})


def line(custom_id: Any, text: Any, **more: Any) -> dict[str, Any]:
    body = {"model": "stub", "input": text, **more}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}


def jsonl(*lines: Any) -> bytes:
    return b"".join(
        (made if isinstance(made, bytes) else json.dumps(made).encode()) + b"\n" for made in lines
    )


@dataclass
class Caller:
    """The client of OpenAI, with what the tests do most."""

    client: openai.OpenAI

    def upload(self, *lines: Any, **options: Any) -> FileObject:
        content = ("in.jsonl", jsonl(*lines))
        return self.client.files.create(file=content, purpose="batch", **options)

    def create(self, file_id: str, **options: Any) -> Batch:
        return self.client.batches.create(
            input_file_id=file_id,
            endpoint="/v1/embeddings",
            **{"completion_window": "24h", **options},
        )

    def wait(self, batch: Batch, *states: str) -> Batch:
        found: list[Batch] = []

        def has_state() -> bool:
            found.append(self.client.batches.retrieve(batch.id))
            return found[-1].status in (states or ENDED)

        eventually(has_state, 30)
        return found[-1]

    def run(self, *lines: Any) -> Batch:
        return self.wait(self.create(self.upload(*lines).id))

    def read(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        return [json.loads(text) for text in self.client.files.content(file_id).text.splitlines()]


def caller(gateway: Gateway, key: str = "any") -> Caller:
    return Caller(openai.OpenAI(base_url=gateway.url, api_key=key, max_retries=0))


@pytest.fixture(scope="module")
def stub(module_redis_url: str) -> Iterator[Stub]:
    with stub_worker(module_redis_url) as made:
        yield made


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batches")


@pytest.fixture(scope="module")
def gateway(module_redis_url: str, stub: Stub, directory: Path) -> Iterator[Gateway]:
    with running(module_redis_url, batches=settings(directory)) as made:
        yield made


@pytest.fixture
def user(gateway: Gateway) -> Caller:
    return caller(gateway)


def test_the_life_of_a_batch(gateway: Gateway, user: Caller) -> None:
    begun = int(time.time())
    lines = [line(f"id {n}", f"text number {n}") for n in range(30)]
    lines.append(line("several", ["a b", "c"], encoding_format="base64", dimensions=4))
    file = user.upload(*lines)
    assert (file.object, file.purpose, file.filename) == ("file", "batch", "in.jsonl")
    assert (file.bytes, file.status) == (len(jsonl(*lines)), "processed")
    assert file.expires_at == file.created_at + 30 * 24 * 3600
    assert user.client.files.retrieve(file.id) == file
    assert user.client.files.content(file.id).content == jsonl(*lines)
    batch = user.create(file.id, metadata={"a": "b"})
    assert (batch.object, batch.status) == ("batch", "validating")
    assert batch.expires_at == batch.created_at + 24 * 3600
    ended = user.wait(batch)
    assert ended.status == "completed"
    assert (ended.metadata, ended.model, ended.error_file_id) == ({"a": "b"}, "stub", None)
    assert ended.input_file_id == file.id
    counts = ended.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (31, 31, 0)
    assert ended.usage is not None
    assert ended.usage.total_tokens == ended.usage.input_tokens == 3 * 30 + 3
    times = [ended.in_progress_at, ended.finalizing_at, ended.completed_at]
    assert begun <= ended.created_at <= times[0] <= times[1] <= times[2] <= time.time()  # type: ignore[operator]
    assert ended.failed_at is ended.expired_at is ended.cancelled_at is ended.cancelling_at is None
    assert ended.output_file_id is not None
    output = user.client.files.retrieve(ended.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    answers = user.read(output.id)
    assert [answer["custom_id"] for answer in answers] == [made["custom_id"] for made in lines]
    assert len({answer["id"] for answer in answers}) == 31
    for answer, made in zip(answers, lines, strict=True):
        assert answer.keys() == {"id", "custom_id", "response", "error"}
        assert answer["error"] is None
        assert answer["response"].keys() == {"status_code", "request_id", "body"}
        direct = gateway.http.post("/v1/embeddings", json=made["body"])
        assert answer["response"]["status_code"] == direct.status_code == 200
        assert answer["response"]["body"] == direct.json()
    metrics = gateway.http.get("/metrics").text
    assert 'bertq_http_batches_total{status="completed"}' in metrics
    assert 'bertq_http_batch_requests_total{outcome="completed"}' in metrics
    assert 'route="/v1/files/{file_id}/content",status="200"' in metrics
