"""``bertq status``: the table for people, the document for programs."""

import dataclasses
import json
import re
import time

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from bertq.protocol import keys
from bertq.state import claims, worker_info
from bertq.state.worker_info import WorkerStats
from bertq_cli.commands.status import duration, show
from tests import records
from tests.cli.runs import Run
from tests.client.stub import info


def run(*arguments: str) -> Result:
    return CliRunner().invoke(show, arguments, env={"COLUMNS": "100"}, catch_exceptions=False)


def fill(redis: Redis) -> None:
    """Put a worker, waiting chunks and a request into the database."""
    work = WorkerStats(
        chunks=9, sentences=12345, sentences_per_second=310.25, busy=0.934, failures=2,
        max_sentences_per_second=400.0, chunk_sentences=200.0,
    )  # fmt: skip
    worker = dataclasses.replace(
        info(["bertq", "gpu0"]), work=work, started=time.time() - 3700, fingerprint="0123456789"
    )
    worker_info.publish(redis, worker)
    claims.take(redis, "bertq", "0123456789")
    redis.lpush("bertq", *range(1234))
    redis.hset(keys.UNACKED, "tag", "message")
    records.write(redis, "j", rows=700, chunks=3)


def test_the_table(redis: Redis, redis_url: str) -> None:
    fill(redis)
    shown = run("--redis-url", redis_url)
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[0] == f"redis       {redis_url}"
    row = r"│ stub@test │ cpu +│ 01234567 │ 1 h 1 min │ +12,345 │ 310.2 │ 93 % │ +2 │"
    assert any(re.fullmatch(row, line) for line in lines), shown.output
    assert "model       01234567  stub, REDUCE_MEAN of -2, max_seq_len 25, float32" in lines
    assert any(
        re.fullmatch(r"│ bertq +│ +1,234 │ +617.0 s │ +1 │ 01234567 +│", line) for line in lines
    )
    assert any(re.fullmatch(r"│ gpu0 +│ +0 │ +0.0 s │ +1 │ - +│", line) for line in lines)
    assert "unacked     1 chunk with workers" in lines
    assert lines[-1] == (
        "requests    1 with 700 sentences, 0.02 per second in the last minute; 1 client, 1 active"
    )


def test_a_model_with_a_name(redis: Redis, redis_url: str) -> None:
    named = dataclasses.replace(info(["bertq.news"]), model_name="news", fingerprint="76543210")
    worker_info.publish(redis, named)
    shown = run("--redis-url", redis_url).output
    assert re.search(r"│ stub@test │ cpu +│ news 76543210 │", shown), shown
    assert "model       news 76543210  stub, REDUCE_MEAN of -2" in shown
    assert re.search(r"│ bertq.news +│ +0 │ +0.0 s │ +1 │ - +│", shown), shown


def test_the_task_of_a_model(redis: Redis, redis_url: str) -> None:
    described = dataclasses.replace(
        info(["bertq"]),
        fingerprint="0123456789",
        description="mean of the last layer, 256 tokens, L2-normalized (from modules.json)",
        normalized=True,
        prompts=["query"],
    )
    worker_info.publish(redis, described)
    lines = run("--redis-url", redis_url).output.splitlines()
    assert f"model       01234567  stub, {described.description}, float32" in lines
    document = json.loads(run("--redis-url", redis_url, "--json").output)
    worker = document["workers"]["stub@test"]
    assert (worker["description"], worker["normalized"]) == (described.description, True)
    assert (worker["prompts"], worker["default_prompt"], worker["task"]) == (
        ["query"], None, "embed",
    )  # fmt: skip


def test_no_worker(redis_url: str) -> None:
    shown = run("--redis-url", redis_url)
    assert "workers     none is alive" in shown.output
    assert "requests    0 with 0 sentences" in shown.output


def test_for_programs(redis: Redis, redis_url: str) -> None:
    fill(redis)
    shown = CliRunner().invoke(show, ["--json"], env={"BERTQ_REDIS_URL": redis_url})
    document = json.loads(shown.output)
    assert document["redis_url"] == redis_url
    assert document["workers"]["stub@test"]["work"]["sentences"] == 12345
    assert document["queues"]["bertq"] == {
        "name": "bertq",
        "chunks": 1234,
        "workers": ["stub@test"],
        "fingerprint": "0123456789",
        "waiting_seconds": 617.0,
    }
    assert (document["unacked"], document["num_worker"]) == (1, 1)
    assert document["statistic"]["num_total_seq"] == 700


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "Error: --redis-url is 'nonsense': it must be redis://"),
        (
            "redis://:pw@127.0.0.1:1/0",
            "Error: Redis at redis://:**@127.0.0.1:1/0 cannot",
        ),
    ],
)
def test_an_impossible_request_is_one_line(
    url: str, reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = Run(tmp_path_factory.mktemp("status"), "status", "--redis-url", url)
    status, output = asked.wait(30)
    assert status == 1
    assert output.startswith(reason)
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (200_000, "2 d 7 h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert duration(seconds) == text
