"""Streams, and requests that are fetched later, on a stub of a worker."""

import asyncio
import logging
import re
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import BadInput, BadInputType, BadInputValue, RemoteError, TruncationWarning
from bertq_client.encode.unfetched import join
from bertq_client.futures import Progress
from bertq_client.streaming.stream import Batch
from tests.client.stub import Stub, rows
from tests.waiting import eventually


def sentences(count: int) -> list[str]:
    return [f"{number} {'w' * (number % 7)}" for number in range(count)]


def check(batches: list[Batch], texts: list[str], size: int) -> None:
    """Every sentence is in one batch, with its vector."""
    batches = sorted(batches, key=lambda batch: batch.start)
    assert [batch.start for batch in batches] == list(range(0, len(texts), size))
    assert [text for batch in batches for text in batch.texts] == texts
    for batch in batches:
        np.testing.assert_array_equal(batch.vectors, rows(batch.texts))
        assert batch.tokens is None


@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream(client: BertClient, stub: Stub, ordered: bool) -> None:
    texts = sentences(1234)
    batches = list(client.encode_stream(iter(texts), 100, ordered))
    check(batches, texts, 100)
    assert len(batches) == 13
    if ordered:
        assert [batch.start for batch in batches] == list(range(0, 1234, 100))


def test_an_empty_stream(client: BertClient) -> None:
    assert list(client.encode_stream([])) == []


def test_the_error_of_a_batch_ends_the_stream(client: BertClient, stub: Stub) -> None:
    texts = ["!fail" if number == 0 else f"{number}" for number in range(6)]
    batches = client.encode_stream(texts, 1, max_requests=6)
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        next(batches)
    batches = client.encode_stream(texts, 1, ordered=False, max_requests=6)
    with pytest.raises(RemoteError):
        check(list(batches), texts, 1)


def test_the_source_is_read_as_requests_finish(
    client: BertClient, stub: Stub, redis: Redis
) -> None:
    read = 0

    def source() -> Iterator[str]:
        nonlocal read
        for text in sentences(100):
            read += 1
            yield text

    batches = client.encode_stream(source(), 5, max_requests=3)
    assert read == 0
    next(batches)
    assert read == 15
    next(batches)
    assert read == 20
    stub.gate.clear()
    batches.close()
    eventually(lambda: client.status["num_pending_request"] == 0)
    stub.gate.set()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("twin", [False, True])
def test_fetched_results_are_released(
    client: BertClient, stub: Stub, ordered: bool, twin: bool
) -> None:
    taken: list[weakref.ref[Any]] = []
    max_alive = 5  # the batch, and jobs of two requests that the sender and the gatherer finish

    def count_alive() -> int:
        return sum(vectors() is not None for vectors in taken)

    async def stream() -> None:
        async for batch in client.encode_stream_async(sentences(200), 5, ordered, max_requests=2):
            taken.append(weakref.ref(batch.vectors))
            assert count_alive() <= max_alive

    if twin:
        asyncio.run(stream())
    else:
        for batch in client.encode_stream(sentences(200), 5, ordered, max_requests=2):
            taken.append(weakref.ref(batch.vectors))
            assert count_alive() <= max_alive
    assert len(taken) == 40


def test_tokens_of_a_stream(client: BertClient, stub: Stub) -> None:
    texts = [text.split() for text in sentences(30)]
    batches = list(client.encode_stream(texts, 8, is_tokenized=True, show_tokens=True))
    assert [tokens for batch in batches for tokens in batch.tokens or []] == texts


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (["a"], {"batch_size": 0}, BadInputValue, "batch_size is 0: it must be a whole number"),
        (["a"], {"max_requests": True}, BadInputType, "max_requests must be a whole number"),
        (["a"], {"truncate": "no"}, BadInputValue, "truncate must be one of"),
        (["a"], {"blocking": False}, BadInputType, "there is no option blocking"),
        ("a", {}, BadInputType, "str: give an iterable of sentences"),
        (1, {}, BadInputType, "int: give an iterable of sentences"),
    ],
)
def test_wrong_streams(
    client: BertClient, source: Any, options: dict[str, Any], error: type[BadInput], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.encode_stream(source, **options)
    with pytest.raises(error, match=message):
        client.encode_stream_async(source, **options)


def test_a_bad_sentence_far_down(client: BertClient, stub: Stub) -> None:
    texts: list[Any] = [*sentences(25), None, *sentences(5)]
    batches = client.encode_stream(texts, 10, max_requests=1)
    check([next(batches), next(batches)], texts[:20], 10)
    with pytest.raises(BadInputType, match=r"texts\[5\] is a NoneType") as caught:
        next(batches)
    assert caught.value.__notes__ == ["(texts is a batch, which begins with sentence 20)"]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_asynchronous_stream(client: BertClient, stub: Stub, ordered: bool) -> None:
    texts = sentences(500)

    async def source() -> AsyncIterator[str]:
        for text in texts:
            await asyncio.sleep(0)
            yield text

    async def collect(iterable: Any) -> list[Batch]:
        stream = client.encode_stream_async(iterable, 60, ordered, max_requests=4)
        return [batch async for batch in stream]

    for iterable in (texts, source()):
        batches = asyncio.run(collect(iterable))
        check(batches, texts, 60)
        if ordered:
            assert [batch.start for batch in batches] == list(range(0, 500, 60))


def test_leaving_an_asynchronous_stream_cancels_it(client: BertClient, stub: Stub) -> None:
    async def leave() -> None:
        batches = client.encode_stream_async(sentences(100), 10, max_requests=3)
        await anext(batches)
        stub.gate.clear()
        await batches.aclose()

    asyncio.run(leave())
    assert client.status["num_pending_request"] == 0
    stub.gate.set()


# -- fetching


def test_fetch_all(client: BertClient, stub: Stub) -> None:
    texts = [sentences(count) for count in (3, 40, 1)]
    numbers = [client.encode(some, blocking=False) for some in texts]
    assert numbers == sorted(numbers)
    vectors = client.fetch_all()
    assert [len(some) for some in vectors] == [3, 40, 1]
    for some, own in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(own, rows(some))
    assert client.fetch_all() == client.fetch_all(concat=True) == []


def test_fetch_all_as_one(client: BertClient, redis_url: str, stub: Stub) -> None:
    for text in ("a", "b"):
        client.encode([text], blocking=False, show_tokens=True)
    vectors, tokens = client.fetch_all(concat=True)
    np.testing.assert_array_equal(vectors, rows(["a", "b"]))
    assert tokens == [["a"], ["b"]]
    with BertClient(redis_url=redis_url, output_fmt="list", timeout=30) as lists:
        lists.encode(["a", "b"], blocking=False)
        lists.encode(["c"], blocking=False)
        assert lists.fetch_all(concat=True) == rows(["a", "b", "c"]).tolist()


def test_token_vectors_as_one() -> None:
    one = join([np.ones((2, 1, 2)), np.ones((1, 3, 2))])
    assert one.shape == (3, 3, 2)
    assert one.sum(axis=(1, 2)).tolist() == [2, 2, 6]


def test_fetch_gives_what_has_come(client: BertClient, stub: Stub) -> None:
    sent = {client.encode([f"{n}"], blocking=False): f"{n}" for n in range(20)}
    fetched = dict(client.fetch(delay=0.01))
    assert fetched.keys() == sent.keys()
    for number, vectors in fetched.items():
        np.testing.assert_array_equal(vectors, rows([sent[number]]))


def test_an_error_leaves_the_others_to_be_fetched(client: BertClient, stub: Stub) -> None:
    client.encode(["!fail"], blocking=False)
    client.encode(["a" * 20] * 17, blocking=False)
    came: list[object] = []
    for _ in range(2):
        try:
            for _, vectors in client.fetch():
                came.append(len(vectors))
        except RemoteError:
            came.append("error")
    assert sorted(map(str, came)) == ["17", "error"]


def test_an_error_leaves_all_others_to_be_fetched_at_once(client: BertClient, stub: Stub) -> None:
    sent = [["a"], ["b"], ["!fail"], ["c" * 20] * 17]
    numbers = [client.encode(texts, blocking=False) for texts in sent]
    with pytest.raises(RemoteError):
        client.fetch_all()
    left = dict(client.fetch())
    assert left.keys() == set(numbers) - {numbers[2]}
    np.testing.assert_array_equal(left[numbers[1]], rows(["b"]))


def test_one_thread_sends_another_fetches(client: BertClient, stub: Stub) -> None:
    def send() -> None:
        for number in range(50):
            client.encode([f"{number}"], blocking=False)

    thread = threading.Thread(target=send)
    thread.start()
    fetched: list[Any] = []
    while thread.is_alive() or len(fetched) < 50:
        fetched += client.fetch()
    thread.join()
    assert len({number for number, _ in fetched}) == 50


# -- progress


def test_progress_of_a_future(client: BertClient, stub: Stub) -> None:
    texts = sentences(600)
    stub.gate.clear()
    future = client.encode_async(texts)
    assert future.progress == Progress(0, 600)
    seen = set()
    stub.gate.set()
    while not future.done():
        seen.add(future.progress.done)
    assert future.progress == Progress(600, 600)
    assert seen <= {0, 200, 400, 600}
    failed = client.encode_async(["!fail"])
    failed.exception(20)
    assert failed.progress == Progress(0, 1)


def test_a_progress_bar(client: BertClient, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    texts = sentences(600)
    np.testing.assert_array_equal(client.encode(texts, progress=True), rows(texts))
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert "600/600" in shown
    with pytest.raises(RemoteError):
        client.encode(["!fail"], progress=True)


def test_a_bar_appears_only_if_there_is_something_to_show(
    client: BertClient, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RemoteError):
        client.encode(["!fail"], progress=True)
    with pytest.raises(RemoteError):
        list(client.encode_stream(["!fail"], progress=True))
    assert capsys.readouterr().err == ""


def test_a_bar_moves_and_messages_have_their_own_lines(
    redis_url: str, client: BertClient, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.encode, ["w " * 30], progress=True)
        time.sleep(1.5)
        handler = logging.StreamHandler(sys.stderr)
        log = logging.getLogger("bertq.client")
        log.addHandler(handler)
        log.warning("a message")
        log.removeHandler(handler)
        stub.gate.set()
        with pytest.warns(TruncationWarning):
            waiting.result(20)
    shown = capsys.readouterr().err
    assert "0/1 [00:01<?, ?" in shown
    lines = re.split("[\r\n]", shown)
    assert "a message" in lines
    assert "sentences/s]" in shown
    assert shown.endswith("]\n")


def test_a_progress_bar_of_a_stream(
    client: BertClient, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = sentences(60)
    check(list(client.encode_stream(texts, 20, progress=True)), texts, 20)
    assert "60/60 [" in capsys.readouterr().err
    check(list(client.encode_stream(iter(texts), 20, progress=True)), texts, 20)
    assert "60 sentences [" in capsys.readouterr().err


# -- status of a client


def test_status_and_identity(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url, identity="my-app@1", timeout=7) as client:
        client.encode(["a"])
        stub.gate.clear()
        waits = client.encode_async(["b"])
        status = client.status
        assert status["identity"] == client.identity == "my-app@1"
        assert client._session.context.client_id.startswith("my-app@1-")
        assert (status["num_request"], status["num_pending_request"]) == (2, 1)
        assert status["pending_request"] == [waits.number]
        assert (status["timeout"], status["output_fmt"]) == (7, "ndarray")
        assert status["server_ip"] == "127.0.0.1"
        stub.gate.set()
        waits.result(20)
    with BertClient(redis_url=redis_url) as one, BertClient(redis_url=redis_url) as other:
        assert one.identity != other.identity


@pytest.mark.parametrize("identity", ["", "a b", "x" * 65, 7, "ä", "a\n"])
def test_wrong_identities(identity: Any) -> None:
    with pytest.raises(ValueError, match="identity must be of 1 to 64"):
        BertClient(identity=identity)
