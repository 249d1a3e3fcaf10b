"""Load: large requests, many clients, several workers, and no keys left in Redis."""

import gc
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery import Celery
from redis import Redis

from bertq import BertClient
from bertq.errors import BadInputType, BertqError, RemoteError
from bertq.protocol import time_to_live
from bertq.protocol.wire import ChunkResult
from bertq.state import counters
from bertq_client.futures import EncodeFuture
from bertq_client.inbox.assembly import Assembly
from bertq_client.job import Job
from bertq_client.request import Request
from bertq_client.session import Session
from tests.client.stub import Stub, row, rows
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


def test_a_large_request_arrives_whole_and_in_order(
    redis_url: str, stub: Stub, redis: Redis
) -> None:
    texts = [f"{number:06d} {'x' * (number * 7 % 60)}" for number in range(200_000)]
    with BertClient(redis_url=redis_url, timeout=100) as client:
        vectors = client.encode(texts)
    np.testing.assert_array_equal(vectors[:, 0], [len(text) for text in texts])
    codes = np.frombuffer("".join(text[:3] for text in texts).encode(), np.uint8)
    np.testing.assert_array_equal(vectors[:, 1:], codes.reshape(-1, 3))
    assert sum(stub.chunks) == 200_000
    assert not list(redis.scan_iter("bertq:reply:*"))
    assert not list(redis.scan_iter("celery-task-meta-*"))


OTHER_WORKER = """
import sys
from tests.client.stub import stub_worker
with stub_worker(sys.argv[1]):
    sys.stdin.read()
"""


@contextmanager
def other_worker(url: str) -> Iterator[None]:
    """Run a stub worker in another process, because a process can have only one."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_WORKER, url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()


def test_two_workers_finish_in_any_order(
    redis_url: str, client: BertClient, stub: Stub, redis: Redis
) -> None:
    texts = [f"{number} {'y' * (number * 11 % 70)}" for number in range(2500)]
    stub.gate.clear()
    future = client.encode_async(texts)
    # This worker has the first chunk and perhaps one more; the other worker encodes the rest.
    eventually(lambda: redis.llen("bertq") + redis.hlen("unacked") == 10)
    eventually(lambda: redis.hlen("unacked"))
    with other_worker(redis_url):
        eventually(lambda: redis.llen("bertq") == 0, 30)
        eventually(lambda: 0 < redis.hlen("unacked") <= 2)
        assert not future.done()
        stub.gate.set()
        np.testing.assert_array_equal(future.result(30), rows(texts))
    assert 1 <= len(stub.chunks) <= 2


def test_many_clients_at_once(redis_url: str, stub: Stub, redis: Redis) -> None:
    together = threading.Barrier(160)

    def work(number: int) -> None:
        with BertClient(redis_url=redis_url, timeout=100) as client:
            together.wait(60)
            for size in (1, 40):
                texts = [f"{number} of {size}: {'z' * index}" for index in range(size)]
                np.testing.assert_array_equal(client.encode(texts), rows(texts))

    with ThreadPoolExecutor(160) as pool:
        assert list(pool.map(work, range(160))) == [None] * 160
    assert sum(stub.chunks) == 160 * 41
    assert not list(redis.scan_iter("bertq:reply:*"))


# -- errors stay where they belong


def test_an_invalid_sentence_fails_only_its_request(client: BertClient, stub: Stub) -> None:
    def work(number: int) -> str:
        texts = [f"{number} {'w' * index}" for index in range(1 + number % 5 * 90)]
        try:
            if number % 4 == 1:
                client.encode([*texts, "!fail"])
            elif number % 4 == 2:
                client.encode([*texts, None])  # type: ignore[arg-type]
            else:
                np.testing.assert_array_equal(client.encode(texts), rows(texts))
                return "rows"
        except (RemoteError, BadInputType) as error:
            return type(error).__name__
        return "nothing"

    with ThreadPoolExecutor(16) as pool:
        seen = Counter(pool.map(work, range(80)))
    assert seen == {"rows": 40, "RemoteError": 20, "BadInputType": 20}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("the device said no"), "ValueError: the device said no"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError(None), "RuntimeError: None"),
        (KeyError("vocab"), "KeyError: 'vocab'"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError: 'utf-8' codec"),
        (AttributeError("'NoneType' object has no x"), "AttributeError: 'NoneType' object has"),
    ],
)
def test_the_error_of_the_worker_reaches_the_caller(
    client: BertClient, stub: Stub, error: Exception, message: str
) -> None:
    def fail(request: Any, redis: Redis, texts: list[str], options: Any) -> ChunkResult:
        raise error

    stub.encode = fail  # type: ignore[method-assign]
    with pytest.raises(RemoteError) as caught:
        client.encode(["a"])
    assert str(caught.value).startswith(message)
    assert caught.value.type_name == type(error).__name__
    del stub.encode
    np.testing.assert_array_equal(client.encode(["after"]), row("after")[None])


# -- keys that are left


def alive(*classes: type) -> Counter[str]:
    """How many objects there are of some classes."""
    gc.collect()
    return Counter(type(item).__name__ for item in gc.get_objects() if type(item) in classes)


def test_requests_leave_nothing_behind(redis_url: str, stub: Stub, redis: Redis) -> None:
    with BertClient(redis_url=redis_url, timeout=1000) as client:
        client.encode(["the first"])
        before = alive(Request, Job, EncodeFuture, Assembly)
        for _ in range(10):
            futures = [client.encode_async(["a"] * (1 + number % 20)) for number in range(100)]
            futures.append(client.encode_async(["!fail"]))
            client.encode_async(["cancelled"]).cancel()
            with pytest.raises(BadInputType):
                client.encode_async([None])  # type: ignore[arg-type]
            for future in futures:
                future.add_done_callback(lambda done: None)
            assert wait(futures, timeout=60).not_done == set()
        del futures, future
        session = client._session
        assert session.context.registry.jobs() == []
        assert len(session.context.registry._deadlines) < 100
        eventually(lambda: alive(Request, Job, EncodeFuture, Assembly) <= before)
        assert not session._pending_futures
        eventually(lambda: redis.llen("bertq.small") + redis.hlen("unacked") == 0)
    assert not list(redis.scan_iter("bertq:reply:*"))
    assert not list(redis.scan_iter("celery-task-meta-*"))
    # The record of a failed or cancelled job expires later.
    assert all(
        0 < redis.ttl(key) <= time_to_live.JOB_SECONDS for key in redis.scan_iter("bertq:job:*")
    )


def test_clients_leave_nothing_behind(redis_url: str, stub: Stub, redis: Redis) -> None:
    # Clients of other tests in this process may still be there.
    sessions: list[weakref.ref[Session]] = []

    def use() -> None:
        with BertClient(redis_url=redis_url, timeout=60) as client:
            client.encode(["closed"])
            sessions.append(weakref.ref(client._session))
        client = BertClient(redis_url=redis_url, timeout=60)
        client.encode(["forgotten"])
        sessions.append(weakref.ref(client._session))
        failed = client.encode_async(["!fail"])
        assert isinstance(failed.exception(30), BertqError)

    def all_collected() -> bool:
        gc.collect()
        return not any(session() for session in sessions)

    use()
    eventually(all_collected, 30)
    apps, threads = alive(Celery), threading.active_count()
    connections = len(redis.client_list())
    for _ in range(20):
        use()
    eventually(all_collected, 30)
    assert alive(Celery) <= apps
    eventually(lambda: threading.active_count() <= threads, 30)
    # The worker opens some as it goes; one for each client would be forty.
    eventually(lambda: len(redis.client_list()) < connections + 10)


def test_requests_are_counted_soon_and_at_the_end(redis_url: str, stub: Stub, redis: Redis) -> None:
    with BertClient(redis_url=redis_url) as client:
        client.encode(["a"])
        eventually(lambda: counters.read(redis)["num_data_request"] == 1)
        client.encode(["b"])
        client.encode([f"{number}" for number in range(20)])
    counted = counters.read(redis)
    assert (counted["num_data_request"], counted["num_total_seq"]) == (3, 22)
    assert counted["num_total_client"] == 1
