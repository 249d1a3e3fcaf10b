"""An abandoned request leaves no message on a queue that nobody serves."""

import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import NoWorker
from bertq.protocol import keys, time_to_live
from bertq_client.context import ClientTimings
from tests.conftest import clean_environ
from tests.waiting import eventually

QUEUE = "gpu7"
LARGE = [f"a readable sentence {number}" for number in range(10_000)]


@pytest.fixture
def other(redis_url: str, redis: Redis) -> Any:
    """A message of another client on the queue, which must stay."""
    with BertClient(redis_url=redis_url, queue=QUEUE) as client:
        client.encode_async(["of another client"])
        eventually(lambda: redis.llen(QUEUE) == 1)
        yield
        assert redis.llen(QUEUE) == 1


def check_withdrawn(redis: Redis) -> None:
    eventually(lambda: redis.llen(QUEUE) == 1)


@pytest.mark.parametrize("texts", [["one"], LARGE], ids=["small", "large"])
def test_a_timeout(redis: Redis, redis_url: str, other: None, texts: list[str]) -> None:
    with BertClient(redis_url=redis_url, queue=QUEUE, timeout=0.5) as client:
        with pytest.raises(NoWorker):
            client.encode(texts)
        check_withdrawn(redis)


@pytest.mark.parametrize("texts", [["one"], LARGE], ids=["small", "large"])
def test_a_cancelled_request(redis: Redis, redis_url: str, other: None, texts: list[str]) -> None:
    with BertClient(redis_url=redis_url, queue=QUEUE) as client:
        future = client.encode_async(texts)
        eventually(lambda: redis.llen(QUEUE) > len(texts) // 256)
        future.cancel()
        check_withdrawn(redis)


@pytest.mark.parametrize("texts", [["one"], LARGE], ids=["small", "large"])
def test_a_closed_client(redis: Redis, redis_url: str, other: None, texts: list[str]) -> None:
    with BertClient(redis_url=redis_url, queue=QUEUE) as client:
        client.encode_async(texts)
        client.encode_async(["and another"])
        eventually(lambda: redis.llen(QUEUE) > 1)
    check_withdrawn(redis)


def waiting_texts(redis: Redis) -> list[list[str]]:
    """Return the texts of each chunk on the queue."""
    messages: Any = redis.lrange(QUEUE, 0, -1)
    return [json.loads(b64decode(json.loads(message)["body"]))[0][0] for message in messages]


def test_a_cancelled_request_of_a_shared_chunk_leaves_the_others(
    redis: Redis, redis_url: str, other: None
) -> None:
    with BertClient(redis_url=redis_url, queue=QUEUE) as client:
        client.encode_async(["first"])
        eventually(lambda: redis.llen(QUEUE) == 2)
        redis.client_pause(300)  # meanwhile requests accumulate
        texts = [f"text {number}" for number in range(6)]
        futures = [client.encode_async([text]) for text in texts]
        eventually(lambda: sum(map(len, waiting_texts(redis))) == 8)
        shared = max(waiting_texts(redis), key=len)
        assert len(shared) > 1
        for future in futures[:-1]:
            future.cancel()
        eventually(lambda: redis.llen(QUEUE) == 3)
        assert shared in waiting_texts(redis)
        futures[-1].cancel()
        eventually(lambda: redis.llen(QUEUE) == 2)


def test_chunks_that_were_sent_again(redis: Redis, redis_url: str, other: None) -> None:
    timings = ClientTimings(search_interval_seconds=0.05, renewal_interval_seconds=0.05)
    with BertClient(redis_url=redis_url, queue=QUEUE, _timings=timings) as client:
        future = client.encode_async(["one"])
        eventually(lambda: redis.llen(QUEUE) == 2)
        names: Any = redis.keys(keys.job("*"))
        redis.delete(*names)  # as after a sleep of ten minutes
        eventually(lambda: redis.llen(QUEUE) >= 3)
        future.cancel()
        check_withdrawn(redis)


def test_the_queue_lives_as_long_as_the_client_waits(redis: Redis, redis_url: str) -> None:
    timings = ClientTimings(search_interval_seconds=0.05, renewal_interval_seconds=0.05)
    with BertClient(redis_url=redis_url, queue=QUEUE, _timings=timings) as client:
        client.encode_async(["one"])
        eventually(lambda: redis.llen(QUEUE) == 1)
        redis.expire(QUEUE, 100)
        eventually(lambda: redis.ttl(QUEUE) > time_to_live.QUEUE_SECONDS - 5)


def test_bertq_encode_without_a_worker(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(LARGE))
    command = [sys.executable, "-m", "bertq_cli", "encode", "corpus.txt", "-o", "o.npy"]
    command += ["--model", "x", "--timeout", "1"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environ() | {"BERTQ_REDIS_URL": redis_url},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    names: Any = redis.keys()
    assert not [name for name in names if name.startswith(b"bertq.")]
    assert "readable sentence" not in done.stderr
