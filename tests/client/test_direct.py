"""A lone request is sent by its caller's thread, which reads the answer, if both are quick."""

import signal
import threading
import time

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import Timeout
from bertq.protocol import keys
from bertq_client.inbox import results
from bertq_client.outbox.message import MessageBuilder
from tests.client.stub import Stub, rows, stub_worker
from tests.client.test_hangs import hung
from tests.conftest import StartServer
from tests.waiting import eventually


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that have written messages."""
    found: list[str] = []
    build = MessageBuilder.build

    def note_thread(*args: object) -> str:
        found.append(threading.current_thread().name)
        return build(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(MessageBuilder, "build", note_thread)
    return found


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that have decoded results."""
    found: list[str] = []
    decode = results.decode

    def note_thread(payload: bytes, task_id: str) -> object:
        found.append(threading.current_thread().name)
        return decode(payload, task_id)

    monkeypatch.setattr(results, "decode", note_thread)
    return found


def warm_up(client: BertClient, senders: list[str]) -> None:
    """Encode until the client knows that Redis is near, which a slow moment may delay."""

    def is_direct() -> bool:
        client.encode(["first"])
        return senders[-1] == threading.current_thread().name

    eventually(is_direct)
    senders.clear()


def test_which_thread_sends(client: BertClient, stub: Stub, senders: list[str]) -> None:
    warm_up(client, senders)
    np.testing.assert_array_equal(client.encode(["a"]), rows(["a"]))
    client.encode_async(["b"]).result(20)
    client.encode([f"{number}" for number in range(20)])
    stub.gate.clear()
    other = client.encode_async(["c"])
    eventually(lambda: len(senders) == 4)
    thread = threading.Thread(target=client.encode, args=(["d"],))
    thread.start()
    eventually(lambda: len(senders) == 5)
    stub.gate.set()
    other.result(20)
    thread.join(20)
    assert senders == [threading.current_thread().name, *["bertq-sender"] * 4]


def test_which_thread_reads(
    client: BertClient, stub: Stub, redis: Redis, senders: list[str], readers: list[str]
) -> None:
    warm_up(client, senders)
    own, gatherer = threading.current_thread().name, "bertq-gatherer"

    def is_read_here() -> bool:
        readers.clear()
        np.testing.assert_array_equal(client.encode(["a"]), rows(["a"]))
        return readers == [own]

    eventually(is_read_here)
    readers.clear()
    client.encode_async(["b"]).result(20)
    assert readers == [gatherer]
    senders.clear()
    stub.gate.clear()
    threading.Timer(0.2, stub.gate.set).start()
    np.testing.assert_array_equal(client.encode(["slow"]), rows(["slow"]))
    assert (senders, readers[1:]) == ([own], [gatherer])
    eventually(is_read_here)
    # The gatherer's thread removes what was read.
    stream = keys.reply(client.identity)
    eventually(lambda: redis.xlen(stream) == 0 and not list(redis.scan_iter(keys.job("*"))))


def test_an_exception_while_the_answer_is_awaited(
    client: BertClient, stub: Stub, senders: list[str]
) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    warm_up(client, senders)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(5):
            stub.gate.clear()
            with pytest.raises(Interrupted):  # noqa: PT012 - the timer may end at any moment
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                client.encode(["interrupted"])
            stub.gate.set()
            np.testing.assert_array_equal(client.encode(["next"]), rows(["next"]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_server_that_has_forgotten_the_scripts(
    client: BertClient, stub: Stub, redis: Redis, senders: list[str]
) -> None:
    warm_up(client, senders)
    before = len(stub.chunks)
    redis.script_flush()
    np.testing.assert_array_equal(client.encode(["a"]), rows(["a"]))
    assert len(stub.chunks) == before + 1


def test_a_redis_that_hangs(start_own_server: StartServer, senders: list[str]) -> None:
    url = f"redis://127.0.0.1:{start_own_server().port}/0"
    with (
        stub_worker(url) as stub,
        BertClient(redis_url=url, timeout=30) as client,
        Redis.from_url(url) as redis,
    ):
        warm_up(client, senders)
        client._timeout = 0.5
        before = len(stub.chunks)
        with hung(url):
            began = time.monotonic()
            with pytest.raises(Timeout):
                client.encode(["late"])
            assert time.monotonic() - began < 3
        client._timeout = 30
        np.testing.assert_array_equal(client.encode(["after"]), rows(["after"]))
        # What was sent to the hung server arrives, and is cancelled or dropped.
        eventually(lambda: redis.llen("bertq.small") + redis.hlen("unacked") == 0)
        assert len(stub.chunks) <= before + 2
        eventually(
            lambda: b"active" not in [
                redis.hget(name, "state") for name in redis.scan_iter(keys.job("*"))
            ]
        )  # fmt: skip


def test_an_answer_that_comes_late_is_read_by_the_sender(
    start_own_server: StartServer, senders: list[str]
) -> None:
    url = f"redis://127.0.0.1:{start_own_server().port}/0"
    with stub_worker(url) as stub, BertClient(redis_url=url, timeout=30) as client:
        warm_up(client, senders)
        before = len(stub.chunks)
        found = []
        with hung(url):
            thread = threading.Thread(target=lambda: found.append(client.encode(["late"])))
            thread.start()
            eventually(lambda: client._session._direct._paused_until > 0)  # type: ignore[union-attr]
        thread.join(20)
        np.testing.assert_array_equal(found[0], rows(["late"]))
        assert len(stub.chunks) == before + 1
