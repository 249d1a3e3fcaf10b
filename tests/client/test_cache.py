"""The cache of a client: hits without messages, and never a row of another model or option."""

import dataclasses
import itertools
import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from bertq import BertClient
from bertq.errors import ClientClosed, SettingsError, TruncationWarning
from bertq.protocol.encoding import Encoding
from bertq.protocol.wire import ChunkResult
from bertq.state import worker_info
from bertq_client.context import ClientTimings
from bertq_client.futures import Callbacks, EncodeFuture
from bertq_client.request import Request, RequestAnswer
from bertq_client.vector_cache import VectorCache
from tests.client.stub import MAX_WORDS, Stub, info, rows


@pytest.fixture
def client(redis_url: str) -> Iterator[BertClient]:
    # Worker info is read once only, so that the test decides when the model is known.
    timings = ClientTimings(worker_info_seconds=600.0)
    with BertClient(redis_url=redis_url, timeout=30, cache=4, _timings=timings) as made:
        yield made


def test_a_hit_sends_no_message(client: BertClient, stub: Stub) -> None:
    first = client.encode(["a", "b"])
    first[:] = 0  # the caller's own array
    for texts in (["a", "b"], ["b"], ["b", "a", "b"]):
        np.testing.assert_array_equal(client.encode(texts), rows(texts))
        future = client.encode_async(texts)
        assert future.done()
        assert (future.fingerprint, future.cut, future.tokens_read) == ("f", 0, None)
    assert stub.chunks == [2]
    assert client.cache_info == (6, 1, 2, 4)
    np.testing.assert_array_equal(client.encode(["a", "c"]), rows(["a", "c"]))
    assert stub.chunks == [2, 2]


def test_the_rows_used_last_are_kept(client: BertClient, stub: Stub) -> None:
    for text in ("a", "b", "c", "d", "a", "e"):
        client.encode([text])
    assert client.cache_info.rows == 4
    for text in ("a", "c", "d", "e"):
        client.encode([text])
    assert len(stub.chunks) == 5
    client.encode(["b"])
    assert len(stub.chunks) == 6


def test_options_and_pairs_have_rows_of_their_own(client: BertClient, stub: Stub) -> None:
    calls: list[tuple[list[Any], dict[str, Any]]] = [
        (["a b"], {}), (["a b"], {"prompt": "x"}), (["a b"], {"precision": "float16"}),
        ([("a", "b")], {}),
    ]  # fmt: skip
    for _ in range(2):
        for texts, options in calls:
            client.encode(texts, **options)
    assert len(stub.chunks) == 4
    client.encode([["a", "b"]], is_tokenized=True)
    assert len(stub.chunks) == 5
    assert client.encode(["a b"], precision="float16").dtype == np.float16


def test_what_is_not_cached(client: BertClient, stub: Stub) -> None:
    for _ in range(2):
        client.encode([f"{number}" for number in range(17)])
        client.encode(["a"], show_tokens=True)
    assert len(stub.chunks) == 4
    assert client.cache_info == (0, 0, 0, 4)
    stub.is_sparse = True
    for _ in range(2):
        client.encode(["a"])
    assert len(stub.chunks) == 6


def test_counts_and_cuts_are_those_of_the_answer(client: BertClient, stub: Stub) -> None:
    texts = ["a", "word " * (MAX_WORDS + 1)]
    for _ in range(2):
        future = client.encode_async(texts, count_tokens=True)
        with pytest.warns(TruncationWarning, match=f"1 of 2 .* than the {MAX_WORDS} that are"):
            future.result(20)
        assert (future.tokens_read, future.cut_rows) == (MAX_WORDS + 2, (1,))
    assert stub.chunks == [2]
    future = client.encode_async(["a"], count_tokens=True)
    assert (future.tokens_read, future.cut_rows) == (1, ())


def test_lists(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url, timeout=30, cache=4, output_fmt="list") as client:
        for _ in range(2):
            assert client.encode(["a"]) == rows(["a"]).tolist()


def swap(redis: Redis, stub: Stub, fingerprint: str) -> None:
    """Have another model answer."""
    stub.fingerprints = [fingerprint]
    published = dataclasses.replace(info(["bertq", "bertq.small"]), fingerprint=fingerprint)
    worker_info.publish(redis, published)


@pytest.fixture
def models(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """A stub whose rows have the name of the model as their last number."""
    plain = stub.encode

    def encode(*arguments: Any) -> ChunkResult:
        made = plain(*arguments)
        numbers = np.array(made.rows)
        numbers[:, -1] = ord(made.fingerprint[0])
        return dataclasses.replace(made, rows=numbers)

    monkeypatch.setattr(stub, "encode", encode)
    return stub


def test_another_model_empties_it(client: BertClient, models: Stub, redis: Redis) -> None:
    for fingerprint in ("f", "g", "f"):
        swap(redis, models, fingerprint)
        client.worker_directory.expire()
        for _ in range(3):
            for text in ("a", "b"):
                future = client.encode_async([text])
                assert future.result(20)[0, -1] == ord(fingerprint)
                assert future.fingerprint == fingerprint
        assert client.cache_info.rows == 2
    assert len(models.chunks) == 6


def test_many_threads_while_models_change(redis_url: str, models: Stub, redis: Redis) -> None:
    is_over = threading.Event()
    timings = ClientTimings(worker_info_seconds=0.05)
    with BertClient(redis_url=redis_url, timeout=30, cache=50, _timings=timings) as client:

        def ask(seed: int) -> int:
            count = 0
            while not is_over.is_set():
                text = f"{(seed + count) % 70}"
                future = client.encode_async([text])
                row = future.result(20)[0]
                expected = rows([text])[0]
                expected[-1] = ord(future.fingerprint)
                np.testing.assert_array_equal(row, expected)
                count += 1
            return count

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, seed) for seed in range(4)]
            for fingerprint in itertools.islice(itertools.cycle("gf"), 6):
                swap(redis, models, fingerprint)
                is_over.wait(0.3)
            is_over.set()
            assert all(future.result() > 10 for future in asked)


def test_unknown_workers_are_no_hit(client: BertClient, stub: Stub, redis: Redis) -> None:
    client.encode(["a"])
    client.worker_directory.expire()  # as after two seconds
    client.encode(["a"])
    assert stub.chunks == [1, 1]
    other = dataclasses.replace(info(["bertq.small"]), node="other@test", fingerprint="g")
    worker_info.publish(redis, other)
    client.worker_directory.expire()
    client.worker_directory.refresh()
    client.encode(["a"])
    assert stub.chunks == [1, 1, 1]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks beside threads
def test_pickles_forks_and_the_end(client: BertClient, stub: Stub) -> None:
    client.encode(["a"])
    with pickle.loads(pickle.dumps(client)) as copy:
        assert copy.cache_info == (0, 0, 0, 4)
        np.testing.assert_array_equal(copy.encode(["a"]), rows(["a"]))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def child() -> None:
        queue.put((client.cache_info, client.encode(["a"]).tolist()))

    process = context.Process(target=child)
    process.start()
    try:
        assert queue.get() == ((0, 0, 0, 4), rows(["a"]).tolist())
    finally:
        process.join(20)
    client.close()
    with pytest.raises(ClientClosed):
        client.encode(["a"])


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "10", None])
def test_wrong_sizes(wrong: Any) -> None:
    with pytest.raises(SettingsError, match=r"cache is .*: it must be a number of rows"):
        BertClient(cache=wrong)


def request(texts: tuple[str, ...], encoding: Encoding) -> Request:
    future = EncodeFuture(Callbacks(), 0, len(texts), lambda: None)
    return Request(0, texts, "bertq", encoding, future, None, False, False)


MODELS = st.sampled_from(["f", "g"])
TEXTS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4).map(tuple)
ENCODINGS = st.sampled_from(
    [Encoding(), Encoding(precision="float16"), Encoding(prompt="a"), Encoding(count_tokens=True)]
)


def row_of(fingerprint: str, encoding: Encoding, text: str) -> list[float]:
    return [ord(fingerprint), hash(encoding) % 1000, ord(text)]


@settings(max_examples=200)
@given(
    st.integers(1, 8),
    st.lists(st.tuples(MODELS, MODELS | st.none(), TEXTS, ENCODINGS), max_size=40),
)
def test_no_row_is_wrong(size: int, calls: list[Any]) -> None:
    """Each call has the model that answers, and the one that the client believes to answer."""
    cache = VectorCache(size)
    for answering, known, texts, encoding in calls:
        asked = request(texts, encoding)
        expected = known
        if not cache.answer(asked, known):
            made = np.array([row_of(answering, encoding, text) for text in texts], np.float32)
            asked.succeed(
                RequestAnswer(made, None, [], 0, answering, np.ones(len(texts), np.int64))
            )
            expected = answering
        assert asked.future.fingerprint == expected
        found = asked.future.result(0).tolist()
        assert found == [row_of(expected, encoding, text) for text in texts]
        assert asked.future.tokens_read == len(texts) or not encoding.count_tokens
        assert cache.info.rows <= size
