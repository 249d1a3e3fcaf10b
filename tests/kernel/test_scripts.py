"""The Lua scripts: each has its comment, the server compiles it, and one module loads it."""

import re
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from bertq.protocol import keys, scripts
from bertq.redis.connection import run_script, script_hash
from bertq.state import durable_jobs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "bertq" / "protocol" / "lua"
FUNCTIONS = {"feed", "push", "withdraw"}  # files that define a function for scripts
SCRIPTS = sorted({path.stem for path in FOLDER.iterdir()} - FUNCTIONS)
SOURCES = [
    path.read_text(encoding="utf-8")
    for package in ("bertq", "client", "workers", "bert", "cli", "gateway")
    for path in (ROOT / package).rglob("*.py")
]


def loads() -> list[tuple[str, ...]]:
    """The names in each call of ``scripts.load``."""
    calls = [call for source in SOURCES for call in re.findall(r"scripts\.load\((.*?)\)", source)]
    return [tuple(re.findall(r'"(\w+)"', call)) for call in calls]


def test_each_file_is_used() -> None:
    assert sorted(names[-1] for names in loads()) == SCRIPTS
    assert {name for names in loads() for name in names[:-1]} == FUNCTIONS


def test_no_script_is_in_a_python_file() -> None:
    assert not [source for source in SOURCES if "redis.call(" in source]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_comment_names_what_the_script_uses(name: str) -> None:
    text = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    body = scripts.load(name)
    comment = text.removesuffix(body)
    assert body
    assert all(line.startswith("--") for line in comment.splitlines() if line)
    for array in ("KEYS", "ARGV"):
        named = re.findall(rf"^-- {array}\[(\d+)(?:\.\.)?\] ", comment, re.MULTILINE)
        assert named == [str(number) for number in range(1, len(named) + 1)]
        assert set(re.findall(rf"{array}\[(\d+)\]", body)) <= set(named)
    assert re.search(r"^-- Returns ", comment, re.MULTILINE)
    assert re.search(r"^-- One step, because ", comment, re.MULTILINE)
    for function in FUNCTIONS - {"push"} if "feed(" in body else FUNCTIONS:
        assert (f"{function}.lua" in comment) == (f"{function}(" in body)


def test_the_server_gets_no_comments_and_compiles_each(redis: Redis) -> None:
    for names in loads():
        source = scripts.load(*names)
        assert "--" not in source
        redis.script_load(source)


def test_a_script_contains_its_function() -> None:
    function, script = scripts.load("push"), scripts.load("push_chunk")
    assert scripts.load("push", "push_chunk") == f"{function}\n{script}"
    with pytest.raises(FileNotFoundError):
        scripts.load("no_such_script")


@pytest.mark.parametrize(
    ("waiting", "sent"), [(0, 64), (60, 4), (63, 4), (64, 4), (1000, 4), (10, 54)]
)
def test_the_limits_of_feed(redis: Redis, waiting: int, sent: int) -> None:
    """A job has 4 chunks on the way, or as many as bring the queue to 64."""
    assert (durable_jobs.MIN_SENT_CHUNKS, durable_jobs.MAX_QUEUED_CHUNKS) == (4, 64)
    if waiting:
        redis.lpush("bertq", *["other"] * waiting)
    redis.hset(keys.job("one"), mapping={"state": "active", "next": 0, "chunks": 100})
    messages: dict[Any, Any] = {chunk: f"message {chunk}" for chunk in range(100)}
    redis.hset(keys.messages("one"), mapping=messages)
    durable_jobs.feed(redis, "one", "bertq")
    assert redis.llen("bertq") == waiting + sent
    assert redis.hget(keys.job("one"), "next") == str(sent).encode()
    durable_jobs.feed(redis, "one", "bertq")
    assert redis.llen("bertq") == waiting + sent


def test_a_server_that_knows_a_script_gets_its_hash(redis: Redis) -> None:
    script = "return ARGV[1]"
    for _ in range(2):
        redis.script_flush()
        assert not redis.script_exists(script_hash(script))[0]
        assert run_script(redis, script, [], "a") == b"a"
        assert redis.script_exists(script_hash(script))[0]
        assert run_script(redis, script, [], "b") == b"b"
