"""Interrupted calls: Ctrl-C, exceptions of signal handlers, cancelled tasks."""

import _thread
import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.protocol import keys
from tests.client.stub import Stub, rows
from tests.waiting import eventually

TEXTS = [f"{number} {'x' * (number % 60)}" for number in range(8000)]

#: Interrupts the main thread after some seconds.
Interrupt = Callable[[float], None]


class Interrupted(Exception):
    """What a signal handler raises, such as Celery's SoftTimeLimitExceeded."""


@pytest.fixture(params=[KeyboardInterrupt, Interrupted])
def interrupt(request: pytest.FixtureRequest) -> Iterator[Interrupt]:
    """Raise an error in the main thread, out of a signal handler."""

    def handle(*_: object) -> None:
        raise request.param

    def send() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    yield lambda seconds: threading.Timer(seconds, send).start()
    signal.signal(signal.SIGUSR1, before)


def states(redis: Redis) -> list[bytes | None]:
    """The states of the jobs that have a record."""
    return [redis.hget(name, "state") for name in redis.scan_iter(keys.job("*"))]  # type: ignore[misc]


def check_cancelled(client: BertClient, stub: Stub, redis: Redis) -> None:
    """Nothing is pending, the chunks are dropped, and the client continues."""
    assert client.status["num_pending_request"] == 0
    registry = client._session.context.registry
    eventually(lambda: registry.jobs() == [])
    assert registry.pending_chunks("bertq") == registry.pending_chunks("bertq.small") == 0
    eventually(lambda: b"active" not in states(redis))
    before = sum(stub.chunks)
    stub.gate.set()
    np.testing.assert_array_equal(client.encode(["after"]), rows(["after"]))
    eventually(lambda: redis.llen("bertq") == 0, 60)
    assert sum(stub.chunks) == before + 1


def read_stream(client: BertClient, **options: Any) -> None:
    for _ in client.encode_stream(TEXTS, 500, **options):
        pass


def encode_file(client: BertClient, folder: Path, *, progress: bool) -> None:
    (folder / "corpus.txt").write_text("\n".join(TEXTS))
    client.encode_file(folder / "corpus.txt", folder / "v.npy", progress=progress)


CALLS: dict[str, Callable[[BertClient, Path], object]] = {
    "encode": lambda client, _: client.encode(TEXTS),
    "progress": lambda client, _: client.encode(TEXTS, progress=True),
    "query": lambda client, _: client.encode_query(TEXTS),
    "stream": lambda client, _: read_stream(client),
    "unordered": lambda client, _: read_stream(client, ordered=False),
    "stream-progress": lambda client, _: read_stream(client, progress=True),
    "file": lambda client, folder: encode_file(client, folder, progress=False),
    "file-progress": lambda client, folder: encode_file(client, folder, progress=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupted_call_cancels_its_requests(
    client: BertClient, stub: Stub, redis: Redis, interrupt: Interrupt, name: str, tmp_path: Path
) -> None:
    stub.gate.clear()
    interrupt(0.4)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        CALLS[name](client, tmp_path)
    check_cancelled(client, stub, redis)


def fetch_all(client: BertClient) -> None:
    client.encode(["a"], blocking=False)
    client.fetch_all()


@pytest.mark.parametrize(
    "call", [*CALLS.values(), lambda client, _: fetch_all(client)], ids=[*CALLS, "fetch"]
)
def test_a_signal_that_does_not_end_a_wait(
    client: BertClient, stub: Stub, tmp_path: Path, call: Callable[[BertClient, Path], object]
) -> None:
    stub.gate.clear()
    # Like a signal that comes right before the wait: Python notes it, and nothing wakes the thread.
    threading.Timer(0.4, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        call(client, tmp_path)


def test_the_loop_over_a_stream(
    client: BertClient, stub: Stub, redis: Redis, interrupt: Interrupt
) -> None:
    def read() -> None:
        for _ in client.encode_stream(TEXTS, 20):
            stub.gate.clear()
            interrupt(0.1)
            time.sleep(10)

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        read()
    check_cancelled(client, stub, redis)


# Of a connection that was being opened, and of an error in a finalizer.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment(
    client: BertClient, stub: Stub, redis: Redis, interrupt: Interrupt
) -> None:
    client.encode(["first"])
    stub.gate.clear()
    interrupted = 0
    for number in range(150):
        # As a user does: CPython loses the error of a handler that runs during a finalizer.
        again = threading.Timer(4, os.kill, [os.getpid(), signal.SIGUSR1])
        again.start()
        try:
            interrupt(0.00002 * number)
            client.encode(TEXTS[: (1, 20, 320, 1)[number % 4]])
        except (KeyboardInterrupt, Interrupted):
            interrupted += 1
        finally:
            again.cancel()
    assert interrupted == 150
    check_cancelled(client, stub, redis)


def test_a_request_that_is_fetched_later_continues(
    client: BertClient, stub: Stub, interrupt: Interrupt
) -> None:
    stub.gate.clear()
    client.encode(["a"], blocking=False)
    interrupt(0.2)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        client.fetch_all()
    stub.gate.set()
    np.testing.assert_array_equal(client.fetch_all()[0], rows(["a"]))


def test_a_reader_of_a_durable_job_takes_nothing_away(
    client: BertClient, stub: Stub, redis: Redis, interrupt: Interrupt
) -> None:
    stub.gate.clear()
    job = client.submit(TEXTS)
    interrupt(0.2)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        job.result()
    stub.gate.set()
    np.testing.assert_array_equal(job.result(30), rows(TEXTS))


# -- asyncio


async def wait_for(client: BertClient) -> None:
    await client.encode_async(TEXTS)


async def read_stream_async(client: BertClient) -> None:
    async for _ in client.encode_stream_async(TEXTS, 500):
        pass


async def gather(client: BertClient) -> None:
    await asyncio.gather(*(client.encode_async(TEXTS[:2000]) for _ in range(4)))


@pytest.mark.parametrize("work", [wait_for, read_stream_async, gather])
@pytest.mark.parametrize("how", ["cancelled", "timed out", "interrupted"])
def test_a_coroutine_that_ends_cancels_its_requests(
    client: BertClient, stub: Stub, redis: Redis, work: Any, how: str
) -> None:
    stub.gate.clear()

    async def cancel() -> None:
        task = asyncio.create_task(work(client))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def time_out() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work(client), 0.3)

    def raise_error() -> None:
        raise KeyboardInterrupt

    async def be_interrupted() -> None:
        asyncio.get_running_loop().call_later(0.3, raise_error)
        await work(client)

    if how == "cancelled":
        asyncio.run(cancel())
    elif how == "timed out":
        asyncio.run(time_out())
    else:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(be_interrupted())
    check_cancelled(client, stub, redis)
