"""Every wait ends: closing, event loops, and a Redis that hangs, stops or comes back."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import BertqError, ClientClosed, RedisUnavailable, Timeout
from bertq.protocol import keys, wire
from bertq.protocol.wire import ChunkResult
from bertq_client.context import ClientTimings
from tests.client.stub import Stub, rows, stub_worker
from tests.conftest import StartServer
from tests.waiting import eventually


@pytest.fixture
def own_url(start_own_server: StartServer) -> str:
    """The URL of a server that the test may hang."""
    return f"redis://127.0.0.1:{start_own_server().port}/0"


@contextmanager
def hung(url: str) -> Iterator[None]:
    """Stop the server's process: its connections stay, and nothing answers."""
    with Redis.from_url(url) as redis:
        information: Any = redis.info("server")
    os.kill(information["process_id"], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(information["process_id"], signal.SIGCONT)


def set_socket_timeouts(monkeypatch: pytest.MonkeyPatch, seconds: float) -> ClientTimings:
    """Set the timeout of sockets; return timings with reads that wait almost as long."""
    monkeypatch.setattr("bertq.redis.connection.SOCKET_TIMEOUT_SECONDS", seconds)
    monkeypatch.setattr("bertq.redis.connection.CONNECT_TIMEOUT_SECONDS", seconds)
    return ClientTimings(read_seconds=seconds * 0.75)


def within(seconds: float, call: Callable[[], object]) -> Any:
    """Call something that might hang; fail if it does."""
    outcome: Future[object] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result(seconds)


def threads_of(client: BertClient) -> list[threading.Thread]:
    """The threads that talk to Redis for a client that is in use."""
    sender, gatherer = client._session._sender, client._session._gatherer
    assert sender is not None
    assert gatherer is not None
    return [sender.thread, gatherer.thread]


# -- closing


def test_closing_wakes_the_reading_thread(
    redis_url: str, redis: Redis, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = BertClient(redis_url=redis_url, _timings=set_socket_timeouts(monkeypatch, 90))
    client.encode(["a"])
    eventually(lambda: redis.hlen("unacked") == 0)
    stub.gate.clear()
    future = client.encode_async([f"b {n}" for n in range(600)])
    eventually(lambda: redis.llen("bertq") + redis.hlen("unacked") == 3)
    eventually(lambda: _blocked_readers(redis) == 1)
    threads = threads_of(client)
    # That would wake it too, but not every version of redis-py does it without trouble.
    monkeypatch.setattr(client._session.context.redis, "close", lambda: None)
    within(20, client.close)
    assert not any(thread.is_alive() for thread in threads)
    assert isinstance(future.exception(0), ClientClosed)
    assert not list(redis.scan_iter("bertq:reply:*"))
    stub.gate.set()
    eventually(lambda: len(stub.dropped) == 3)
    assert stub.chunks == [1]


def _blocked_readers(redis: Redis) -> int:
    clients: Any = redis.client_list()
    database = str(redis.connection_pool.connection_kwargs["db"])
    return sum(c["cmd"] == "xread" and "b" in c["flags"] and c["db"] == database for c in clients)


def test_closing_while_redis_is_hung(
    own_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = BertClient(redis_url=own_url, _timings=set_socket_timeouts(monkeypatch, 90))
    futures = [client.encode_async(["a"]) for _ in range(3)]
    with Redis.from_url(own_url) as redis:
        eventually(
            lambda: len(client._session.context.registry.jobs()) == redis.llen("bertq.small") > 0
        )
    eventually(lambda: "no worker takes from queue" in caplog.text)
    threads = threads_of(client)
    caplog.clear()
    with hung(own_url):
        futures += [client.encode_async(["b"]) for _ in range(3)]
        within(20, client.close)
        assert {type(future.exception(0)) for future in futures} == {ClientClosed}
        # Waiting callers are woken too, without a warning.
        eventually(lambda: not any(thread.is_alive() for thread in threads), 20)
    assert caplog.text == ""


def test_closing_a_client_that_never_reached_redis(silent_url: str) -> None:
    for url in (silent_url, "redis://127.0.0.1:1/0"):
        client = BertClient(redis_url=url)
        future = client.encode_async(["a"])
        within(20, client.close)
        assert isinstance(future.exception(0), ClientClosed)


def test_closing_amid_thousands_of_requests(redis_url: str, redis: Redis) -> None:
    client = BertClient(redis_url=redis_url, max_pending_chunks=1800)
    futures = [client.encode_async(["a"] * 17) for _ in range(2000)]
    futures += [client.encode_async(["a"]) for _ in range(2000)]
    eventually(lambda: redis.llen("bertq") == 1800 and redis.llen("bertq.small"), 60)
    futures += [client.encode_async(["a"]) for _ in range(2000)]
    within(20, client.close)
    assert wait(futures, timeout=0).not_done == set()
    assert not list(redis.scan_iter("bertq:job:*"))


def test_closing_twice_and_from_many_threads(redis_url: str, stub: Stub) -> None:
    for pending in (False, True):
        client = BertClient(redis_url=redis_url, timeout=30)
        client.encode(["a"])
        if pending:
            stub.gate.clear()
            future = client.encode_async(["b"])
        threads = threads_of(client)
        together = threading.Barrier(8)

        def close(client: BertClient = client, together: threading.Barrier = together) -> None:
            together.wait(20)
            client.close()

        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(close) for _ in range(8)]
            assert [call.result(20) for call in calls] == [None] * 8
        within(20, client.close)
        assert not any(thread.is_alive() for thread in threads)
        stub.gate.set()
    assert isinstance(future.exception(0), ClientClosed)


def test_closing_in_a_callback(redis_url: str, stub: Stub) -> None:
    client = BertClient(redis_url=redis_url, timeout=30)
    threads: list[threading.Thread] = []
    closed = threading.Event()

    def close(_: Future[Any]) -> None:
        threads.extend(threads_of(client))
        client.close()
        closed.set()

    client.encode_async(["a"]).add_done_callback(close)
    assert closed.wait(20)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("which", ["sender", "gatherer"])
def test_closing_on_a_thread_of_the_client(redis_url: str, stub: Stub, which: str) -> None:
    # The garbage collector may collect a client on any thread.
    client = BertClient(redis_url=redis_url, timeout=30)
    future = client.encode_async(["a"])
    future.result(30)
    threads = threads_of(client)
    closed = threading.Event()

    def close(_: object = None) -> Iterator[None]:
        client.close()
        closed.set()
        return iter(())

    if which == "sender":
        sender = client._session._sender
        assert sender is not None
        sender._work.put(close)
    else:
        stub.gate.clear()
        # Not bertq's own method: this calls back on the thread that completes the future.
        Future.add_done_callback(client.encode_async(["b"]), close)
        stub.gate.set()
    assert closed.wait(20)
    eventually(lambda: not any(thread.is_alive() for thread in threads), 20)
    with pytest.raises(ClientClosed):
        client.encode(["c"])


def test_an_unreferenced_client_waits_for_nothing(
    own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python ignores a Ctrl-C that comes while an object is collected."""
    client = BertClient(redis_url=own_url, _timings=set_socket_timeouts(monkeypatch, 1.5))
    with stub_worker(own_url):
        client.encode(["a"])
    sender, gatherer = threads_of(client)
    with hung(own_url):
        del client
        assert sender.is_alive()  # Redis does not answer it
    eventually(lambda: not sender.is_alive() and not gatherer.is_alive(), 20)


def test_closing_in_a_finalizer(redis_url: str, stub: Stub) -> None:
    class Owner:
        def __init__(self) -> None:
            self.client = BertClient(redis_url=redis_url, timeout=30)
            self.itself = self

        def __del__(self) -> None:
            self.client.close()
            ended.append(self.client)

    ended: list[BertClient] = []
    owner = Owner()
    owner.client.encode(["a"])
    threads = threads_of(owner.client)
    del owner
    gc.collect()
    assert len(ended) == 1
    eventually(lambda: not any(thread.is_alive() for thread in threads), 20)


def test_a_closed_client_refuses_everything(redis_url: str, redis: Redis) -> None:
    client = BertClient(redis_url=redis_url)
    future = client.encode_async(["a"])
    client.close()
    with pytest.raises(ClientClosed, match="was closed before"):
        future.result(5)
    calls: list[Callable[[], object]] = [
        lambda: client.encode(["a"]),
        lambda: client.encode_async(["a"]),
        lambda: client.server_config,
        lambda: client.server_status,
    ]
    for call in calls:
        with pytest.raises(ClientClosed, match="make a new BertClient"):
            within(20, call)
    assert all(redis.ttl(key) > 0 for key in redis.scan_iter("bertq:*"))


# -- coroutines


class Ticks:
    """Counts how often the event loop comes round."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self.count += 1


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticks]:
    """Count the rounds of the event loop."""
    ticks = Ticks()
    task = asyncio.create_task(ticks.run())
    try:
        yield ticks
    finally:
        task.cancel()


def test_a_client_in_a_coroutine(redis_url: str, stub: Stub) -> None:
    async def work() -> None:
        async with BertClient(redis_url=redis_url, timeout=30) as client:
            futures = [client.encode_async([f"{n}"] * (n + 1)) for n in range(20)]
            for number, vectors in enumerate(await asyncio.gather(*futures)):
                np.testing.assert_array_equal(vectors, rows([f"{number}"] * (number + 1)))
            stub.gate.clear()
            pending = client.encode_async(["pending"])
        with pytest.raises(ClientClosed, match="was closed before"):
            await pending
        await client.aclose()
        with pytest.raises(ClientClosed, match="make a new"):
            async with client:
                await client.encode_async(["closed"])

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.parametrize("away", [False, True])
def test_the_loop_goes_on_without_redis(silent_url: str, away: bool) -> None:
    url = "redis://127.0.0.1:1/0" if away else silent_url

    async def work() -> None:
        async with ticking() as ticks:
            async with BertClient(redis_url=url, timeout=0.5) as client:
                with pytest.raises(Timeout):
                    await client.encode_async(["a"])
                assert ticks.count > 10
                given_up = client.encode_async(["b"])
                task = asyncio.ensure_future(asyncio.wait_for(_awaited(given_up), 0.2))
                with pytest.raises(asyncio.TimeoutError):
                    await task
                assert given_up.cancelled()
                before = ticks.count
                client.encode_async(["c"])
            # With a hung Redis, closing takes two seconds.
            assert away or ticks.count - before > 20

    asyncio.run(asyncio.wait_for(work(), 60))


async def _awaited(future: Any) -> Any:
    return await future


def test_closing_needs_no_thread_of_the_loop(redis_url: str) -> None:
    client = BertClient(redis_url=redis_url)

    async def work() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        blocked = asyncio.ensure_future(asyncio.to_thread(client.encode, ["never answered"]))
        await asyncio.sleep(0.1)
        await client.aclose()
        with pytest.raises(ClientClosed):
            await blocked

    asyncio.run(asyncio.wait_for(work(), 60))


def test_closing_goes_on_when_nobody_waits_for_it(silent_url: str) -> None:
    client = BertClient(redis_url=silent_url)

    async def work() -> None:
        future = client.encode_async(["a"])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.aclose(), 0.1)
        with pytest.raises(ClientClosed):
            await future

    asyncio.run(asyncio.wait_for(work(), 60))
    eventually(lambda: not any(t.name == "bertq-closer" for t in threading.enumerate()))


# -- threads that must not end


def test_no_thread_ends_by_an_error(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("a bug in bertq")

    timings = ClientTimings(search_interval_seconds=0, renewal_interval_seconds=0)
    with BertClient(redis_url=redis_url, timeout=0.7, _timings=timings) as client:
        future = client.encode_async(["a"])
        eventually(lambda: redis.llen("bertq.small") == 1)
        session = client._session
        with monkeypatch.context() as patch:
            patch.setattr(client.worker_directory, "known", broken)
            patch.setattr("bertq.state.jobs.renew", broken)
            with pytest.raises(Timeout, match=r"no answer within 0\.7 s \(ZeroDivisionError"):
                future.result(20)
            assert session._sender is not None
            session._sender._work.put(broken)
            with pytest.raises(BertqError, match=r"could not be sent \(ZeroDivisionError\)"):
                client.encode_async(["b"]).result(20)
        assert "results could not be collected" in caplog.text
        assert "could not complete a step" in caplog.text
        client._timeout = 30
        with stub_worker(redis_url):
            np.testing.assert_array_equal(client.encode(["c"]), rows(["c"]))


# -- Redis hung, away, back


def test_a_server_that_accepts_and_never_answers(silent_url: str) -> None:
    with BertClient(redis_url=silent_url, timeout=0.5) as client:
        futures = [client.encode_async(["a"]) for _ in range(5)]
        assert wait(futures, timeout=20).not_done == set()
        for future in futures:
            with pytest.raises(Timeout, match=r"within 0\.5 s: Redis at .* has not answered"):
                future.result()


def test_a_server_that_never_answers_is_an_error_without_a_timeout_too(
    silent_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings = replace(set_socket_timeouts(monkeypatch, 0.2), retry_seconds=0.5)
    with BertClient(redis_url=silent_url, _timings=timings) as client:
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            within(20, lambda: client.encode(["a"]))
        with pytest.raises(RedisUnavailable):
            within(20, lambda: client.server_config)


@pytest.mark.parametrize("timeout", [None, 1.0])
def test_redis_hangs_amid_a_request_and_comes_back(
    own_url: str, monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    timings = set_socket_timeouts(monkeypatch, 0.4)
    texts = [f"{number} {'x' * (number % 60)}" for number in range(700)]
    with (
        stub_worker(own_url) as stub,
        BertClient(redis_url=own_url, timeout=timeout, _timings=timings) as client,
    ):
        with Redis.from_url(own_url) as redis:
            client.encode(["before"])
            eventually(lambda: redis.hlen("unacked") == 0)
            stub.gate.clear()
            future = client.encode_async(texts)
            eventually(lambda: redis.llen("bertq") + redis.hlen("unacked") == 3)
        with hung(own_url):
            stub.gate.set()
            later = client.encode_async(["sent while it hangs"])
            if timeout is None:
                assert wait([future, later], timeout=2).done == set()
            else:
                assert wait([future, later], timeout=20).not_done == set()
        if timeout is None:
            np.testing.assert_array_equal(future.result(60), rows(texts))
            np.testing.assert_array_equal(later.result(60), rows(["sent while it hangs"]))
        else:
            assert {type(error.exception()) for error in (future, later)} == {Timeout}
            client._timeout = 30
            np.testing.assert_array_equal(client.encode(["after"]), rows(["after"]))


def test_redis_goes_away_for_good(own_url: str) -> None:
    timings = ClientTimings(retry_seconds=0.3)
    with (
        BertClient(redis_url=own_url, _timings=timings) as client,
        Redis.from_url(own_url) as redis,
    ):
        future = client.encode_async(["b"])
        eventually(lambda: redis.llen("bertq.small"))
        redis.shutdown(nosave=True)
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            within(20, lambda: client.encode(["c"]))
        assert not future.done()
    assert isinstance(future.exception(0), ClientClosed)


def test_a_server_with_a_slow_clock(redis_url: str, redis: Redis) -> None:
    def answer(text: str, entry: str) -> None:
        # As a worker does.
        eventually(lambda: redis.llen("gpu7"))
        (record,) = redis.scan_iter("bertq:job:*")
        task_id = keys.task_id(record.decode().removeprefix("bertq:job:"), 0)
        result = ChunkResult(rows([text]), "f").to_wire()
        redis.set(keys.result(task_id), wire.dumps({"status": "SUCCESS", "result": result}), ex=60)
        redis.xadd(keys.reply(client._session.context.client_id), {"task": task_id}, id=entry)

    with BertClient(redis_url=redis_url, queue="gpu7", timeout=30) as client:
        future = client.encode_async(["today"])
        answer("today", "*")
        np.testing.assert_array_equal(future.result(30), rows(["today"]))
        # Another server has taken over, and there it is 1970.
        eventually(lambda: not list(redis.scan_iter("bertq:job:*")))
        redis.delete("gpu7", keys.reply(client._session.context.client_id))
        future = client.encode_async(["long ago"])
        answer("long ago", "1-1")
        np.testing.assert_array_equal(future.result(30), rows(["long ago"]))
