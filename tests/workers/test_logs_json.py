"""A worker's log as JSON: every line is an object, chunks have fields, and no text is logged."""

import inspect
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery.apps import worker as celery_worker
from redis import Redis

from bertq import BertClient
from bertq.state import jobs
from bertq_client.outbox.message import MessageBuilder
from bertq_workers.observability import json_lines
from bertq_workers.observability.json_lines import JsonFormatter
from tests import records
from tests.conftest import StartWorker, WorkerProcess
from tests.workers.conftest import Refuse
from tests.workers.standins import Start

SECRET = "xylophone"
JSON = ("--log-format", "json")


def lines(text: str) -> list[dict[str, Any]]:
    """The objects of a log, each checked."""
    found = []
    for line in text.splitlines():
        entry = json.loads(line)
        assert list(entry)[:6] == ["time", "level", "logger", "message", "pid", "node"], line
        moment = datetime.fromisoformat(entry["time"])
        assert entry["time"].endswith("Z")
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 300
        assert entry["level"] in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
        assert type(entry["pid"]) is int
        assert "@" in entry["node"]
        found.append(entry)
    return found


@pytest.fixture(scope="module")
def worker(
    module_redis_url: str, tiny_model: Path, module_start_worker: StartWorker
) -> WorkerProcess:
    """A worker of a real model, TensorFlow and all."""
    options = ("-Q", "cpu0", "--threads", "1", "--max-seq-len", "12", *JSON)
    return module_start_worker(module_redis_url, tiny_model, *options).wait_ready()


@pytest.fixture
def client(worker: WorkerProcess) -> Iterator[BertClient]:
    with BertClient(redis_url=worker.url, timeout=60, check_length=False) as made:
        yield made


def test_a_chunk_has_fields_of_its_own(worker: WorkerProcess, client: BertClient) -> None:
    client.encode([f"{SECRET} {number}" for number in range(300)])
    worker.wait_for_log('"rows": 150', count=2)
    for entry in lines(worker.log):
        assert (entry["pid"], entry["node"].partition("@")[0]) == (worker.process.pid, "cpu0")
    chunks = [entry for entry in lines(worker.log) if entry.get("rows") == 150]
    assert len(chunks) == 2
    for entry in chunks:
        assert re.fullmatch(r"[0-9a-f]{32}-[01]", entry["chunk"])
        assert (entry["level"], entry["logger"]) == ("INFO", "bertq.worker")
        assert type(entry["tokens"]) is int
        assert 0 < entry["seconds"] < 60
        start, _, seconds = entry["message"].rpartition(", ")
        assert start == f"chunk {entry['chunk']}: 150 rows, {entry['tokens']} tokens"
        # Both are rounded from one number, not one from the other.
        assert float(seconds.removesuffix(" s")) == pytest.approx(entry["seconds"], abs=0.001)
        assert len(entry) == 10
    assert SECRET not in worker.log


def test_lines_of_rejected_dropped_and_refused_chunks(
    worker: WorkerProcess, client: BertClient, redis_url: str
) -> None:
    with Redis.from_url(worker.url) as redis:
        records.write(redis, "job", chunks=2)
        builder = MessageBuilder("me")
        for number, texts in enumerate([[[SECRET]], [SECRET]]):
            message = json.loads(builder.build(f"job-{number}", texts, "bertq"))  # type: ignore[arg-type]
            redis.lpush("bertq", json.dumps(message))
        message["body"] = SECRET
        redis.lpush("bertq", json.dumps(message), SECRET)
        records.write(redis, "over")
        jobs.cancel(redis, "over")
        redis.lpush("bertq", builder.build("over-0", [SECRET], "bertq"))
    worker.wait_for_log("its job is over")
    worker.wait_for_log("it is not JSON")
    worker.wait_for_log("cannot be decoded")
    worker.wait_for_log("rejected, BadInputType")
    found = [entry for entry in lines(worker.log) if entry.get("chunk") in ("job-0", "over-0")]
    assert [entry["level"] for entry in found] == ["INFO", "INFO"]
    assert SECRET not in worker.log


def test_every_line_from_start_to_end_is_an_object(
    redis_url: str, start: Start, tmp_path: Path
) -> None:
    worker = start(1, "-Q", "cpu0", "-n", "mine@h", *JSON)
    with Redis.from_url(redis_url) as redis:
        redis.client_kill_filter(skipme=True, _type="normal")  # the lines of a lost connection
        worker.wait_for_log("Connection to broker lost")
        worker.wait_for_log("Connected to redis", count=2)
    assert worker.stop() == 0
    found = lines(worker.log)
    assert {entry["node"] for entry in found} == {"mine@h"}
    messages = [entry["message"] for entry in found]
    assert "mine@h ready." in messages
    assert "worker: Warm shutdown (MainProcess)" in messages
    # No banner, and no warning of Python's own past the log.
    assert not any("[queues]" in message for message in messages)
    assert {"celery.apps.worker", "celery.worker.consumer.connection"} <= {
        entry["logger"] for entry in found
    }


def test_a_log_file(redis_url: str, start: Start, tmp_path: Path) -> None:
    path = tmp_path / "worker.txt"
    worker = start(1, "-Q", "cpu0", "-f", str(path), *JSON)
    with BertClient(redis_url=redis_url, timeout=30) as client:
        client.encode(["a"])
    worker.wait_for(lambda: '"rows": 1,' in path.read_text())
    assert lines(path.read_text())


def test_a_refusal_is_an_object_too(refuse: Refuse) -> None:
    for options in ([], ["--model-dir", "/no/such/place"], ["-Q", "gpux"]):
        status, printed = refuse([*options, *JSON], {})
        assert status == os.EX_CONFIG
        (entry,) = lines("\n".join(printed))
        assert entry["level"] == "CRITICAL"
        assert entry["message"].startswith("this worker cannot start: ")
    status, printed = refuse([], {"BERTQ_LOG_FORMAT": "json", "BERTQ_THREADS": "x"})
    assert "BERTQ_THREADS is 'x'" in lines("\n".join(printed))[0]["message"]


def record(**extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("a.logger", logging.ERROR, "", 0, "said %s", ("it",), None)
    made.__dict__.update(extra)
    return made


def test_fields_of_celery_are_left_out() -> None:
    entry = json.loads(
        JsonFormatter("n@h").format(record(data={"args": SECRET}, chunk="c", rows=3))
    )
    assert list(entry) == ["time", "level", "logger", "message", "pid", "node", "chunk", "rows"]
    assert entry["message"] == "said it"


def test_a_traceback_is_in_the_object() -> None:
    try:
        raise ZeroDivisionError("our own mistake")
    except ZeroDivisionError:
        made = record(exc_info=sys.exc_info())
    text = JsonFormatter("n@h").format(made)
    assert "\n" not in text
    assert json.loads(text)["exc_info"].endswith("ZeroDivisionError: our own mistake")


def test_output_of_libraries_becomes_json_lines() -> None:
    said = [
        "E0000 00:00:1795425999.316576    2643 cuda_platform.cc:52] no GPU",
        '{"message": "from the same worker, started anew"}',
        "{ no JSON",
        "x" * 10_000,
        "the last words \udcff",
    ]
    done = subprocess.run(
        [sys.executable, "-S", "-I", json_lines.__file__, "n@h", "17"],
        input="\n".join(said).encode(errors="surrogateescape"),
        capture_output=True,
        check=True,
    )
    error, object_, broken, *long, last = map(json.loads, done.stdout.splitlines())
    assert (error["level"], error["logger"], error["node"]) == ("ERROR", "stderr", "n@h")
    assert (error["message"], error["pid"]) == (said[0], 17)
    assert object_ == json.loads(said[1])
    assert (broken["level"], broken["message"]) == ("WARNING", "{ no JSON")
    assert sum(len(part["message"]) for part in long) == 10_000
    assert last["message"] == "the last words \ufffd"


def test_times_are_utc() -> None:
    made = record()
    made.created = 1_700_000_000.25
    assert json.loads(JsonFormatter("n@h").format(made))["time"] == "2023-11-14T22:13:20.250Z"


def test_celery_still_prints_these_lines_without_its_log() -> None:
    source = inspect.getsource(celery_worker)
    assert "safe_say(f'worker: {how} shutdown (MainProcess)', sys.__stdout__)" in source
    assert "if not self.quiet:\n            self.emit_banner()" in source
