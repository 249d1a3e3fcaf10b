"""Futures of bertq: the interface of concurrent futures, and more."""

import asyncio
import gc
import logging
import sys
import threading
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    TimeoutError,
    as_completed,
    wait,
)

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import RemoteError
from bertq_client.futures import Callbacks, EncodeFuture
from tests.client.stub import Stub, rows
from tests.waiting import eventually


def test_it_is_a_future(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()
    future = client.encode_async(["a"])
    assert isinstance(future, Future)
    assert not future.done()
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0.05)
    stub.gate.set()
    np.testing.assert_array_equal(future.result(timeout=20), rows(["a"]))
    assert future.exception() is None
    assert future.done()
    assert not future.cancelled()
    assert not future.cancel()


def test_wait_and_as_completed(client: BertClient, stub: Stub) -> None:
    futures = [client.encode_async(["x" * size]) for size in range(1, 6)]
    lengths = sorted(future.result()[0, 0] for future in as_completed(futures, timeout=20))
    assert lengths == [1, 2, 3, 4, 5]
    stub.gate.clear()
    slow, cancelled = client.encode_async(["a"]), client.encode_async(["b"])
    assert cancelled.cancel()
    done, pending = wait([slow, cancelled], timeout=10, return_when=FIRST_COMPLETED)
    assert (done, pending) == ({cancelled}, {slow})
    stub.gate.set()
    assert wait([slow, cancelled], timeout=20).not_done == set()


def test_cancelled_work_is_dropped_by_the_worker(
    client: BertClient, stub: Stub, redis: Redis
) -> None:
    stub.gate.clear()
    future = client.encode_async(["a"])
    eventually(lambda: list(redis.scan_iter("bertq:job:*")))
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()
    (record,) = redis.scan_iter("bertq:job:*")
    eventually(lambda: redis.hget(record, "state") == b"cancelled")
    stub.gate.set()
    eventually(lambda: stub.dropped)
    assert stub.chunks == []
    np.testing.assert_array_equal(client.encode(["b"]), rows(["b"]))


def test_a_callback_may_encode(client: BertClient, stub: Stub) -> None:
    answers: list[object] = []
    threads: set[int] = set()

    def again(future: Future[object]) -> None:
        threads.add(threading.get_ident())
        answers.append(client.encode([f"after {len(answers)}"]))

    first, second = client.encode_async(["a"]), client.encode_async(["b"])
    first.add_done_callback(again)
    second.add_done_callback(again)
    eventually(lambda: len(answers) == 2)
    np.testing.assert_array_equal(answers[1], rows(["after 1"]))
    first.add_done_callback(again)  # done already: soon, on the same thread
    eventually(lambda: len(answers) == 3)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_callback_that_fails_is_logged(
    client: BertClient, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()

    def broken(_: Future[object]) -> None:
        raise RuntimeError("a bug of the user's")

    future = client.encode_async(["a"])
    future.add_done_callback(broken)
    future.add_done_callback(lambda _: called.set())
    assert called.wait(20)
    assert "a bug of the user's" in caplog.text


def test_a_callback_cannot_end_the_thread_of_callbacks(
    client: BertClient, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()
    future = client.encode_async(["a"])
    future.add_done_callback(lambda _: sys.exit(3))
    future.add_done_callback(lambda _: called.set())
    assert called.wait(20)
    assert "SystemExit: 3" in caplog.text


def test_a_callback_after_the_end_of_its_client(client: BertClient, stub: Stub) -> None:
    called = threading.Event()
    future = client.encode_async(["a"])
    future.result(20)
    client.close()
    future.add_done_callback(lambda _: called.set())
    assert called.wait(20)
    eventually(lambda: not any(t.name == "bertq-callbacks" for t in threading.enumerate()))


def test_callbacks_are_called_for_errors_and_cancellation(client: BertClient, stub: Stub) -> None:
    seen: list[type] = []
    failed = client.encode_async(["!fail"])
    failed.add_done_callback(lambda done: seen.append(type(done.exception())))
    assert isinstance(failed.exception(20), RemoteError)
    stub.gate.clear()
    cancelled = client.encode_async(["a"])
    cancelled.add_done_callback(lambda done: seen.append(type(done)))
    cancelled.cancel()
    eventually(lambda: seen == [RemoteError, EncodeFuture])


def test_await(client: BertClient, stub: Stub) -> None:
    async def work() -> None:
        first = client.encode_async(["a"])
        answers = await asyncio.gather(first, client.encode_async(["b"]))
        np.testing.assert_array_equal(answers[0], rows(["a"]))
        np.testing.assert_array_equal(answers[1], rows(["b"]))
        np.testing.assert_array_equal(await first, rows(["a"]))  # as often as one likes
        with pytest.raises(RemoteError, match="asked to fail"):
            await client.encode_async(["!fail"])
        np.testing.assert_array_equal(await asyncio.wrap_future(first), rows(["a"]))

    asyncio.run(work())


def test_a_cancelled_coroutine_cancels_the_request(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()

    async def work() -> EncodeFuture:
        future = client.encode_async(["a"])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_wait_for(future), 0.1)
        return future

    async def _wait_for(future: EncodeFuture) -> object:
        return await future

    assert asyncio.run(work()).cancelled()

    async def cancelled_elsewhere() -> None:
        future = client.encode_async(["b"])
        threading.Timer(0.05, future.cancel).start()
        with pytest.raises(asyncio.CancelledError):
            await future

    asyncio.run(cancelled_elsewhere())


def test_a_closed_event_loop_is_ignored(
    client: BertClient, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    stub.gate.clear()

    async def leave() -> EncodeFuture:
        future = client.encode_async(["a"])
        asyncio.ensure_future(asyncio.shield(_awaited(future)))  # noqa: RUF006 - it is left alone
        await asyncio.sleep(0.02)
        return future

    async def _awaited(future: EncodeFuture) -> object:
        return await future

    loop = asyncio.new_event_loop()
    future = loop.run_until_complete(leave())
    with caplog.at_level(logging.CRITICAL, "asyncio"):
        loop.close()
        stub.gate.set()
        np.testing.assert_array_equal(future.result(20), rows(["a"]))
        gc.collect()


def test_a_future_keeps_its_client_alive(redis_url: str, stub: Stub) -> None:
    stub.gate.clear()
    future = BertClient(redis_url=redis_url).encode_async(["a"])
    gc.collect()
    stub.gate.set()
    np.testing.assert_array_equal(future.result(20), rows(["a"]))


def test_a_request_is_completed_once() -> None:
    cancels: list[int] = []
    future = EncodeFuture(Callbacks(), 0, 1, lambda: cancels.append(1))
    future.set_result(1)
    assert not future.cancel()
    assert cancels == []
