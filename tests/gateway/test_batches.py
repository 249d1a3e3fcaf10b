"""``/v1/files`` and ``/v1/batches`` with the client of OpenAI."""

import errno
import gzip
import json
import multiprocessing
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch, FileObject
from redis import Redis

from bertq.protocol import keys
from bertq.state import worker_info
from bertq_gateway import server
from bertq_gateway.batches.lines import FileCheck
from bertq_gateway.batches.settings import BatchSettings
from bertq_gateway.batches.store import BatchStore
from bertq_gateway.config import Config
from bertq_gateway.errors import Refused
from tests.client.stub import Stub, info, stub_worker
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

    def wait_for_answers(self, batch: Batch) -> None:
        def has_answers() -> int:
            counts = self.client.batches.retrieve(batch.id).request_counts
            return 0 if counts is None else counts.completed

        eventually(has_answers, 30)

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


class Turnstile(threading.Event):
    """Lets some chunks pass before it is set."""

    def __init__(self, passes: int = 10) -> None:
        super().__init__()
        self._passes = threading.Semaphore(passes)

    def wait(self, timeout: float | None = None) -> bool:
        return self._passes.acquire(blocking=False) or super().wait(timeout)


@pytest.fixture(autouse=True)
def open_gate(stub: Stub) -> Iterator[None]:
    gate = stub.gate
    yield
    stub.gate.set()
    stub.gate = gate
    gate.set()


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


def test_lists_and_pages(user: Caller) -> None:
    files = [user.upload(line("a", f"list {n}")).id for n in range(5)]
    assert files == sorted(files)
    batches = [user.wait(user.create(file_id)).id for file_id in files]
    newest = user.client.files.list(purpose="batch", limit=2)
    assert [file.id for file in newest.data] == files[:2:-1]
    assert newest.has_more
    assert [file.id for file in newest.get_next_page().data] == files[2:0:-1]
    oldest = user.client.files.list(after=files[1], order="asc", purpose="batch")
    assert [file.id for file in oldest.data] == files[2:]
    assert {file.purpose for file in user.client.files.list()} == {"batch", "batch_output"}
    page = user.client.batches.list(limit=3)
    assert [batch.id for batch in page.data] == batches[:1:-1]
    assert page.has_more
    listed = [batch.id for batch in user.client.batches.list(limit=3)]  # all pages
    assert listed[:5] == batches[::-1]
    assert len(set(listed)) == len(listed)
    assert user.client.files.delete(files[0]).deleted
    with pytest.raises(openai.NotFoundError):
        user.client.files.retrieve(files[0])
    assert files[0] not in [file.id for file in user.client.files.list()]


def test_other_entries_of_the_directory(
    user: Caller, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = BatchStore(directory / "nokey", settings(directory))
    batch = user.run(line("a", "x"))
    for folder, prefix in (("files", "file-"), ("batches", "batch_"), ("uploads", "")):
        (directory / "nokey" / folder).mkdir(exist_ok=True)
        for name in (".DS_Store", f"{prefix}{'f' * 32}"):
            (directory / "nokey" / folder / name).write_bytes(b"\xff")
        (directory / "nokey" / folder / "other").mkdir()
    empty = directory / "nokey" / "batches" / f"batch_{'e' * 32}"
    empty.mkdir()
    other_key = directory / ("a" * 32)
    other_key.mkdir()
    (other_key / "batches").touch()
    try:
        assert user.client.batches.list(limit=1).data == [batch]
        assert user.run(line("b", "x")).status == "completed"
        assert batch.output_file_id in [file.id for file in user.client.files.list()]
        for name in (f"batch_{'f' * 32}", empty.name):
            with pytest.raises(openai.NotFoundError):
                user.client.batches.retrieve(name)
        store.remove_expired()
        assert empty.is_dir()
        os.utime(empty, (1, 1))
        store.remove_expired()
        assert not empty.exists()
        assert (directory / "nokey" / "uploads" / ".DS_Store").is_file()
        assert user.run(line("c", "x")).status == "completed"
    finally:
        shutil.rmtree(other_key)
        for folder in ("files", "batches", "uploads"):
            for path in (directory / "nokey" / folder).iterdir():
                if path.name == "other":
                    path.rmdir()
                elif path.is_file():
                    path.unlink()
    eventually(lambda: "can be used again" in caplog.text)
    assert len([text for text in caplog.messages if "--batch-dir" in text]) == 2
    assert f"Not a directory ({other_key}/batches)" in caplog.text


@pytest.mark.parametrize("name", ["file-0", "..", "../..", "file-" + "0" * 32, "file-" + "g" * 32])
def test_no_such_file(gateway: Gateway, name: str) -> None:
    name = name.replace("/", "%2F").replace(".", "%2E")
    for answer in (
        gateway.http.get(f"/v1/files/{name}"),
        gateway.http.get(f"/v1/files/{name}/content"),
        gateway.http.delete(f"/v1/files/{name}"),
        gateway.http.get(f"/v1/batches/{name}"),
        gateway.http.post(f"/v1/batches/{name}/cancel"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found_error"


def test_a_bad_line_fails_alone(
    gateway: Gateway, user: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        line("number", 1),
        line("blank", ["secret", "  "]),
        line("long", "secret " * 30, truncate="error"),
        line("poison", ["a", "!fail"]),
        line("model", "secret", model="other"),
        line("dimensions", "secret", dimensions=5),
        line("both", "secret", input_type="query", prompt_name="x"),
        {**line("no object", ""), "body": ["secret"]},
        {**line("no model", ""), "body": {"input": "secret"}},
        line("half of an emoji", "\ud83d"),
        line("many", ["secret"] * 2049),
    ]
    good = [line(f"good {n}", "\u00e4" * (n + 1)) for n in range(len(bad))]
    batch = user.run(*[each for pair in zip(good, bad, strict=True) for each in pair])
    counts = batch.request_counts
    assert batch.status == "completed"
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (22, 11, 11)
    answers, failures = user.read(batch.output_file_id), user.read(batch.error_file_id)
    assert [answer["custom_id"] for answer in answers] == [made["custom_id"] for made in good]
    assert [failure["custom_id"] for failure in failures] == [made["custom_id"] for made in bad]
    for found, made in zip(answers + failures, good + bad, strict=True):
        direct = gateway.http.post(
            "/v1/embeddings",
            content=json.dumps(made["body"]).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert found["error"] is None
        assert found["response"]["status_code"] == direct.status_code, made
        assert found["response"]["body"] == direct.json()
    assert "secret" not in json.dumps(failures)
    assert not [text for text in caplog.messages if "secret" in text]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], [("empty_file", None)]),
        ([b" ", b""], [("empty_file", None)]),
        (
            [line("a", "x"), b"{", b"", [], b"\xff", line("a", "y"), line("b", "z"), line("a", "")],
            [
                ("invalid_json_line", 2),
                ("invalid_json_line", 4),
                ("invalid_json_line", 5),
                ("duplicate_custom_id", 6),
                ("duplicate_custom_id", 8),
            ],
        ),
        (
            [
                line(None, "secret"),
                line("", "secret"),
                line("x" * 513, "secret"),
                {**line("a", "secret"), "url": "/v1/chat/completions"},
                {**line("b", "secret"), "method": "GET"},
                {"custom_id": "c", "method": "POST", "url": "/v1/embeddings"},
                b'{"a":' + b"[" * 100_000,
                line("a\ud800", "secret"),
            ],
            [
                ("invalid_custom_id", 1),
                ("invalid_custom_id", 2),
                ("invalid_custom_id", 3),
                ("invalid_url", 4),
                ("invalid_method", 5),
                ("missing_body", 6),
                ("invalid_json_line", 7),
                ("invalid_custom_id", 8),
            ],
        ),
    ],
)
def test_a_file_that_is_refused(
    user: Caller, stub: Stub, lines: list[Any], expected: list[Any]
) -> None:
    asked = stub.asked
    batch = user.run(*lines)
    assert batch.status == "failed"
    assert batch.failed_at
    assert batch.output_file_id is batch.error_file_id is None
    assert batch.in_progress_at is None
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(problem.code, problem.line) for problem in batch.errors.data] == expected
    assert "secret" not in batch.to_json()
    assert stub.asked == asked


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps(line("a", "x")).encode("utf-16"), "is not UTF-8"),
        (json.dumps(line("a", "x")).encode("utf-16-le"), "is not UTF-8"),
        (json.dumps(line("a", "x")).encode("utf-32-be"), "is not UTF-8"),
        (json.dumps(line("\u00e4", "x"), ensure_ascii=False).encode("latin-1"), "is not UTF-8"),
        (gzip.compress(jsonl(line("a", "x"))), r"is compressed \(gzip\)"),
        (b"custom_id,input", "is no JSON"),
    ],
)
def test_why_a_line_is_no_json(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    check = FileCheck(path, 1000)
    list(check.steps())
    assert check.problems[0].code == "invalid_json_line"
    assert re.search(reason, check.problems[0].message)


def test_other_separators_of_lines(user: Caller) -> None:
    ids = ["a\u2028b", "c\u2029d", "e\x85f", "\ufeff\u00e4"]
    first = b"\xef\xbb\xbf" + json.dumps(line(ids[0], "x"), ensure_ascii=False).encode()
    batch = user.run(first, *(line(custom_id, " ") for custom_id in ids[1:]))
    answers = user.read(batch.output_file_id) + user.read(batch.error_file_id)
    assert [answer["custom_id"] for answer in answers] == ids


def test_a_file_that_is_deleted_when_a_batch_is_created(tmp_path: Path) -> None:
    store = BatchStore(tmp_path, settings(tmp_path))
    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            upload = store.files.begin_upload()
            file = upload.finish("name", 3600)
            tasks: list[Future[Any]] = [
                threads.submit(store.create, file.id, "24h", 60, 3600, None),
                threads.submit(store.delete_file, file.id),
            ]
            refused = [task.exception() for task in tasks]
            assert len([error for error in refused if isinstance(error, Refused)]) == 1, refused
            shutil.rmtree(tmp_path / "batches", ignore_errors=True)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_dir()}
    assert modes == {0o700}


def test_a_batch_is_cancelled_while_it_ends(tmp_path: Path) -> None:
    store = BatchStore(tmp_path, settings(tmp_path))
    file = store.files.begin_upload().finish("name", 3600)
    batch = store.create(file.id, "24h", 60, 3600, None)
    record = store.records()[0]
    record.ending, record.batch.status = "completed", "finalizing"
    store.save(record)
    with pytest.raises(Refused, match="the batch is finalizing already"):
        store.cancel(batch.id)
    assert store.find(batch.id) == record.batch


def test_batches_that_are_refused(user: Caller) -> None:
    batch = user.run(line("a", "x"))
    assert batch.output_file_id is not None
    with pytest.raises(openai.NotFoundError):
        user.create("file-" + "0" * 32)
    refused: list[dict[str, Any]] = [
        {"file_id": batch.output_file_id},
        {"completion_window": "0h"},
        {"completion_window": "soon"},
        {"completion_window": "721h"},
        {"metadata": {"a": "b" * 513}},
        {"metadata": {str(n): "" for n in range(17)}},
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
        {"extra_body": {"endpoint": "/v1/responses"}},
    ]
    for wrong in refused:
        with pytest.raises(openai.UnprocessableEntityError):
            user.create(**{"file_id": batch.input_file_id, **wrong})
    with pytest.raises(openai.BadRequestError, match="the batch is completed already"):
        user.client.batches.cancel(batch.id)


def test_a_cancelled_batch_has_its_answers(user: Caller, stub: Stub) -> None:
    stub.gate = Turnstile()
    lines = [line(f"id {n}", f"cancel {n}") for n in range(300)]
    batch = user.create(user.upload(*lines).id)
    user.wait_for_answers(batch)
    with pytest.raises(openai.BadRequestError, match="a batch reads the file"):
        user.client.files.delete(batch.input_file_id)
    cancelling = user.client.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    ended = user.wait(batch)
    assert ended.status == "cancelled"
    assert ended.cancelling_at == cancelling.cancelling_at
    assert ended.cancelled_at
    assert ended.finalizing_at is ended.completed_at is None
    assert ended.error_file_id is None
    assert ended.request_counts is not None
    answers = user.read(ended.output_file_id)
    assert 0 < len(answers) == ended.request_counts.completed < 300
    expected = [made["custom_id"] for made in lines[: len(answers)]]
    assert [answer["custom_id"] for answer in answers] == expected


def test_an_expired_batch(user: Caller, directory: Path, stub: Stub) -> None:
    stub.gate.clear()
    file = user.upload(*(line(f"id {n}", f"expired {n}") for n in range(30)))
    store = BatchStore(directory / "nokey", settings(directory))
    batch = user.wait(Batch.construct(id=store.create(file.id, "24h", 2, 3600, None).id))
    assert batch.status == "expired"
    assert batch.expired_at
    assert batch.output_file_id is None
    failures = user.read(batch.error_file_id)
    assert [failure["custom_id"] for failure in failures] == [f"id {n}" for n in range(30)]
    assert {failure["error"]["code"] for failure in failures} == {"batch_expired"}
    assert {failure["response"] for failure in failures} == {None}


def test_gateways_share_a_directory(module_redis_url: str, stub: Stub, tmp_path: Path) -> None:
    shared = settings(tmp_path)
    lines = [line(f"id {n}", f"shared {n}") for n in range(300)]
    with running(module_redis_url, batches=shared) as second:
        with running(module_redis_url, batches=shared) as first:
            file = caller(first).upload(*lines)
            assert caller(second).client.files.retrieve(file.id) == file
            stub.gate = Turnstile()
            batch = caller(first).create(file.id)
            seen = caller(second)
            seen.wait_for_answers(batch)
        # The first has stopped in the middle.
        assert seen.client.batches.retrieve(batch.id).status == "in_progress"
        stub.gate.set()
        ended = seen.wait(batch)
        answers = seen.read(ended.output_file_id)
    assert ended.status == "completed"
    assert [answer["custom_id"] for answer in answers] == [made["custom_id"] for made in lines]


def test_answers_that_are_lost(module_redis_url: str, stub: Stub, tmp_path: Path) -> None:
    lines = [line(f"id {n}", f"lost {n}") for n in range(200)]
    with running(module_redis_url, batches=settings(tmp_path)) as first:
        stub.gate = Turnstile()
        batch = caller(first).create(caller(first).upload(*lines).id)
        caller(first).wait_for_answers(batch)
    for part in tmp_path.glob("nokey/batches/*/part-*"):
        shutil.rmtree(part)
    stub.gate.set()
    with running(module_redis_url, batches=settings(tmp_path)) as second:
        ended = caller(second).wait(batch)
        answers = caller(second).read(ended.output_file_id)
    assert ended.request_counts is not None
    assert ended.request_counts.completed == 200
    assert [answer["custom_id"] for answer in answers] == [made["custom_id"] for made in lines]
    assert list(tmp_path.glob("nokey/batches/*/part-*")) == []


def test_no_worker_for_a_while(module_redis_url: str, stub: Stub, tmp_path: Path) -> None:
    worker = info(["bertq", "bertq.small"])
    with Redis.from_url(module_redis_url) as redis:
        worker_info.withdraw(redis, worker)
        with running(module_redis_url, batches=settings(tmp_path)) as gateway:
            user = caller(gateway)
            batch = user.create(user.upload(line("a", "x")).id)
            user.wait(batch, "in_progress")
            worker_info.publish(redis, worker)
            redis.expire(keys.worker(worker.node), 600)
            assert user.wait(batch).status == "completed"


def test_another_model(user: Caller, stub: Stub) -> None:
    stub.fingerprints = ["f"] * (len(stub.chunks) + 6) + ["g"] * 1000
    try:
        batch = user.run(*(line(f"id {n}", f"changed {n}") for n in range(300)))
    finally:
        stub.fingerprints = ["f"]
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [problem.code for problem in batch.errors.data] == ["model_changed"]
    assert batch.request_counts is not None
    assert len(user.read(batch.output_file_id)) == batch.request_counts.completed < 300


def serve(config: Config, port: Any) -> None:
    """Run a gateway in this process."""
    sock = server.listen(config)
    port.send(sock.getsockname()[1])
    server.make_server(config).run(sockets=[sock])


def test_a_gateway_that_is_killed(
    module_redis_url: str, user: Caller, stub: Stub, tmp_path: Path
) -> None:
    lines = [line(f"id {n}", f"killed {n}") for n in range(300)]
    lines[200:205] = [line(f"bad {n}", "  ") for n in range(5)]
    undisturbed = user.run(*lines)
    config = Config(redis_url=module_redis_url, port=0, batches=settings(tmp_path))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(config, theirs))
    process.start()
    try:
        assert ours.poll(60)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{ours.recv()}/v1", api_key="any")
        killed = Caller(client)
        stub.gate = Turnstile()
        batch = killed.create(killed.upload(*lines).id)
        killed.wait_for_answers(batch)
    finally:
        process.kill()
        process.join()
    with running(module_redis_url, batches=settings(tmp_path)) as second:
        again = caller(second)
        assert again.client.batches.retrieve(batch.id).status == "in_progress"
        stub.gate.set()
        ended = again.wait(batch)
        assert ended.status == "completed"
        assert ended.request_counts == undisturbed.request_counts
        assert ended.usage == undisturbed.usage
        for name in ("output_file_id", "error_file_id"):
            found = again.read(getattr(ended, name))
            expected = user.read(getattr(undisturbed, name))
            assert list(map(shown, found)) == list(map(shown, expected))


def shown(answer: dict[str, Any]) -> Any:
    """What does not depend on the batch."""
    return answer["custom_id"], answer["response"]["status_code"], answer["response"]["body"]


def test_keys(module_redis_url: str, stub: Stub, tmp_path: Path) -> None:
    with running(module_redis_url, batches=settings(tmp_path), api_keys=KEYS) as gateway:
        first, other = (caller(gateway, key) for key in sorted(KEYS))
        batch = first.run(line("a", "x"))
        assert batch.output_file_id is not None
        assert not list(other.client.files.list())
        assert not list(other.client.batches.list())
        for refused in (
            lambda: other.client.files.retrieve(batch.input_file_id),
            lambda: other.client.files.content(str(batch.output_file_id)),
            lambda: other.client.files.delete(batch.input_file_id),
            lambda: other.client.batches.retrieve(batch.id),
            lambda: other.client.batches.cancel(batch.id),
            lambda: other.create(batch.input_file_id),
        ):
            with pytest.raises(openai.NotFoundError):
                refused()
        assert first.read(batch.output_file_id)
        for path in ("files", "batches", f"files/{batch.input_file_id}/content"):
            assert gateway.http.get(f"/v1/{path}").status_code == 401
    names = [str(path) for path in tmp_path.rglob("*")]
    contents = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert contents
    assert not [text for text in names + contents for key in KEYS if key in text]


def test_quotas(module_redis_url: str, stub: Stub, tmp_path: Path) -> None:
    limits = settings(tmp_path, max_file_bytes=1000, quota_bytes=2500)
    with running(module_redis_url, batches=limits, max_body_bytes=100) as gateway:
        user = caller(gateway)
        for size in (1000, 100_000):
            with pytest.raises(
                openai.APIStatusError, match=r"than 1000 bytes.*batch-max"
            ) as caught:
                user.upload(line("a", "x" * size))
            assert (caught.value.status_code, caught.value.code) == (413, "file_too_large")
        answer = gateway.http.post(
            "/v1/files",
            content=(form(FILE, PURPOSE, ("name=x", "x" * 50_000)) for _ in range(2)),
            headers={"Content-Type": "multipart/form-data; boundary=no"},
        )
        assert answer.json()["error"]["code"] == "file_too_large"
        files = [user.upload(line("a", "x" * 850)) for _ in range(2)]
        with pytest.raises(openai.APIStatusError) as caught:
            user.upload(line("a", "x" * 850))
        assert (caught.value.status_code, caught.value.code) == (413, "quota_exceeded")
        user.client.files.delete(files[0].id)
        user.upload(line("a", "x" * 850))
        assert list((tmp_path / "nokey" / "uploads").iterdir()) == []


def test_the_quota_of_running_batches(module_redis_url: str, stub: Stub, tmp_path: Path) -> None:
    limits = settings(tmp_path, quota_bytes=40_000)
    with running(module_redis_url, batches=limits) as gateway:
        user = caller(gateway)
        file = user.upload(*(line(f"id {n}", f"quota {n}") for n in range(150)))
        store = BatchStore(tmp_path / "nokey", limits)
        running_batch = user.wait(user.create(file.id))
        # It was created before the quota was exceeded.
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(store.files, "check_quota", lambda: 0)
            waiting = store.create(file.id, "24h", 60, 3600, None)
        waiting_batch = user.wait(Batch.construct(id=waiting.id))
        for batch in (running_batch, waiting_batch):
            assert batch.status == "failed"
            assert batch.errors is not None
            assert batch.errors.data is not None
            assert [problem.code for problem in batch.errors.data] == ["quota_exceeded"]
        assert 0 < len(user.read(running_batch.output_file_id)) < 150
        assert waiting_batch.output_file_id is None
        with pytest.raises(openai.APIStatusError) as caught:
            user.create(file.id)
        assert caught.value.code == "quota_exceeded"


def test_a_full_disk(
    user: Caller,
    stub: Stub,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = user.upload(line("a", "x"))
    batches = {path.name for path in directory.glob("nokey/batches/*")}
    reason = ""

    def fail(_: int) -> None:
        raise OSError(number, reason)

    for number, expected in (
        (errno.EROFS, (503, "storage_unavailable")),
        (errno.ENOSPC, (507, "storage_full")),
    ):
        reason = os.strerror(number)
        line_at_start = f"--batch-dir {directory} cannot be used: {reason}"
        line_at_end = f"--batch-dir {directory} can be used again"
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            for refused in (lambda: user.upload(line("a", "x")), lambda: user.create(file.id)):
                with pytest.raises(openai.InternalServerError) as caught:
                    refused()
                assert (caught.value.status_code, caught.value.code) == expected
        eventually(lambda: caplog.messages.count(line_at_end) == 1)  # noqa: B023
        assert caplog.messages.count(line_at_start) == 1
        assert "Traceback" not in caplog.text
        caplog.clear()
    assert list((directory / "nokey" / "uploads").iterdir()) == []
    assert {path.name for path in directory.glob("nokey/batches/*")} == batches
    # A batch waits until there is space.
    stub.gate.clear()
    batch = user.create(file.id)
    user.wait(batch, "in_progress")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        stub.gate.set()
        eventually(lambda: "cannot be used: " in caplog.text)
    assert user.wait(batch).status == "completed"


def test_half_of_a_block_is_cut(
    user: Caller, stub: Stub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stub.gate = Turnstile(10)
    batch = user.create(user.upload(*(line(f"id {n}", f"half {n}") for n in range(300))).id)
    user.wait_for_answers(batch)

    def write_half(descriptor: int, data: memoryview, position: int) -> int:
        os.lseek(descriptor, position, os.SEEK_SET)
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", write_half)
        stub.gate.set()
        eventually(lambda: "cannot be used: no space" in caplog.text)
        user.client.batches.cancel(batch.id)
        ended = user.wait(batch)
    assert ended.status == "cancelled"
    assert ended.request_counts is not None
    answers = user.read(ended.output_file_id)
    assert len(answers) == ended.request_counts.completed < 300


def test_expired_files_are_removed(tmp_path: Path) -> None:
    store = BatchStore(tmp_path, settings(tmp_path))
    ids = []
    for is_expired in (False, True, True):
        upload = store.files.begin_upload()
        upload.write(b"x")
        ids.append(upload.finish("name", 3600).id)
        if is_expired:
            record = tmp_path / "files" / ids[-1] / "object.json"
            record.write_text(json.dumps({**json.loads(record.read_text()), "expires_at": 1}))
    store.create(ids[0], "24h", 60, 3600, None)
    used = store.records()[0]
    used.batch.input_file_id = ids[1]
    store.save(used)
    abandoned, current = (store.files.begin_upload() for _ in range(2))
    old = time.time() - 2 * 3600
    directories = sorted((tmp_path / "uploads").iterdir())
    for path in (directories[0] / "content", directories[0]):
        os.utime(path, (old, old))
    assert [file.id for file in store.files.page(None, 10, None, True)[0]] == [ids[0]]
    with pytest.raises(Refused):
        store.files.find(ids[1])
    store.remove_expired()
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ids[:2]
    assert list((tmp_path / "uploads").iterdir()) == directories[1:]
    for upload in (abandoned, current):
        upload.discard()


def form(*parts: tuple[str, str], boundary: str = "x") -> bytes:
    texts = [
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n"
        for name, value in parts
    ]
    return ("".join(texts) + f"--{boundary}--\r\n").encode()


FILE = ('name="file"; filename="../\u00e4.jsonl"', "{}")
PURPOSE = ('name="purpose"', "batch")
ANCHOR = ('name="expires_after[anchor]"', "created_at")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(FILE, PURPOSE), 200),
        (b"preamble --x\r\n--\r\n" + form(FILE, PURPOSE), 200),
        (form(PURPOSE, FILE, ANCHOR, ('name="expires_after[seconds]"', "3600")), 200),
        (form(FILE, PURPOSE, ANCHOR, ('name="expires_after[seconds]"', "60")), 422),
        (form(FILE, PURPOSE, ANCHOR), 422),
        (form(FILE), 422),
        (form(PURPOSE), 422),
        (form(FILE, ('name="purpose"', "assistants")), 422),
        (form(FILE, FILE, PURPOSE), 422),
        (form(FILE, ('name="purpose"', "x" * 2000)), 422),
        (form(*[PURPOSE] * 20, FILE), 422),
        (form(FILE, PURPOSE, boundary="y"), 422),
        (form(FILE, PURPOSE)[:-8], 422),
        (form(FILE, PURPOSE)[:40], 422),
        (b"", 422),
        (b"{}", 422),
    ],
)
def test_forms(gateway: Gateway, directory: Path, body: bytes, status: int) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = gateway.http.post("/v1/files", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 200:
        file = answer.json()
        assert (file["filename"], file["bytes"]) == ("../\u00e4.jsonl", 2)
        expected = 3600 if b"expires_after" in body else 30 * 24 * 3600
        assert file["expires_at"] == file["created_at"] + expected
    assert list((directory / "nokey" / "uploads").iterdir()) == []


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data"])
def test_no_form(gateway: Gateway, kind: str) -> None:
    answer = gateway.http.post("/v1/files", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 422
    assert "multipart/form-data" in answer.json()["error"]["message"]


def test_an_upload_in_small_pieces(gateway: Gateway) -> None:
    body = b"preamble\r\n" + form(FILE, PURPOSE)
    answer = gateway.http.post(
        "/v1/files",
        content=(body[n : n + 1] for n in range(len(body))),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert (answer.status_code, answer.json()["bytes"]) == (200, 2)


def test_an_upload_that_stalls(module_redis_url: str, tmp_path: Path) -> None:
    uploads = tmp_path / "nokey" / "uploads"
    limits = {"batches": settings(tmp_path), "timeout_seconds": 1.0}
    with running(module_redis_url, **limits) as gateway, gateway.connect() as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + form(FILE, PURPOSE)[:-5]
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
        assert list(uploads.iterdir()) == []


@pytest.mark.parametrize("wanted", ["bytes=99999-", "lines=1-2", "bytes=x-y", "bytes=5-2"])
def test_a_range_that_the_file_does_not_have(gateway: Gateway, user: Caller, wanted: str) -> None:
    path = f"/v1/files/{user.upload(line('a', 'x')).id}/content"
    assert gateway.http.get(path, headers={"Range": "bytes=0-1"}).content == b'{"'
    answer = gateway.http.get(path, headers={"Range": wanted})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(jsonl(line('a', 'x')))}"
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_half_of_an_upload_vanishes(gateway: Gateway, directory: Path) -> None:
    uploads = directory / "nokey" / "uploads"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + form(FILE, PURPOSE)[:-5]
        )
        eventually(lambda: list(uploads.iterdir()))
    eventually(lambda: not list(uploads.iterdir()))


@pytest.mark.parametrize(
    ("site", "cors", "status"),
    [
        ("same-origin", (), 200),
        ("cross-site", (), 403),
        ("cross-site", ("https://a.example",), 200),
        ("cross-site", ("https://b.example",), 403),
    ],
)
def test_forms_of_web_pages(
    module_redis_url: str, tmp_path: Path, site: str, cors: tuple[str, ...], status: int
) -> None:
    with running(module_redis_url, batches=settings(tmp_path), cors=cors) as gateway:
        answer = gateway.http.post(
            "/v1/files",
            files={"file": b"{}"},
            data={"purpose": "batch"},
            headers={"Sec-Fetch-Site": site, "Origin": "https://a.example"},
        )
    assert answer.status_code == status, answer.text


def test_without_a_directory(module_redis_url: str) -> None:
    with running(module_redis_url) as gateway:
        answers = [gateway.http.get("/v1/files"), gateway.http.get("/v1/batches/x")]
        answers.append(gateway.http.post("/v1/files", files={"file": b""}))
    for answer in answers:
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert error["code"] == "batches_off"
        assert "--batch-dir" in error["message"]
