"""What a request asks for beside its sentences, and what comes of it, on a stub of a worker."""

import asyncio
import pickle
import warnings
from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient, adverts
from bertq.encoding import Encoding
from bertq.errors import BadInputType, BadInputValue, SentenceTooLong, TruncationWarning, WireError
from bertq.wire import ChunkResult
from tests.client.stub import MAX_WORDS, Stub, advert, rows
from tests.waiting import eventually

LONG = "word " * MAX_WORDS + "more"


def test_options_go_with_each_chunk(client: BertClient, stub: Stub) -> None:
    client.encode(["a"])
    vectors = client.encode(["a", "b"], normalize=True, truncate="left", dtype="float16")
    assert vectors.dtype == np.float16
    np.testing.assert_array_equal(vectors, rows(["a", "b"]))
    assert stub.options == [{}, {"normalize": True, "truncate": "left", "dtype": "float16"}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"truncate": "middle"}, "truncate must be one of 'right', 'left', 'error'"),
        ({"dtype": "float64"}, "dtype must be one of 'float32', 'float16'"),
        ({"dtype": np.float16}, "dtype must be one of"),
        ({"normalize": 1}, "normalize must be True or False"),
        ({"is_tokenized": "yes"}, "is_tokenized must be True or False"),
        ({"show_tokens": None}, "show_tokens must be True or False"),
        ({"progress": True, "blocking": False}, "progress=True needs blocking=True"),
    ],
)
def test_wrong_options(client: BertClient, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputValue, match=said):
        client.encode(["a"], **options)


@pytest.mark.parametrize("options", [None, [], {"speed": 11}, {"truncate": "middle"}])
def test_what_a_worker_is_asked_must_be_known(options: Any) -> None:
    with pytest.raises(BadInputValue):
        Encoding.from_wire(options)


# -- tokens


def test_tokenized_sentences(client: BertClient, stub: Stub) -> None:
    texts = [["hello", "##s"], ["b"], ["hello", "##s"], ["hello##s"]]
    vectors = client.encode(texts, is_tokenized=True)
    np.testing.assert_array_equal(vectors, rows([" ".join(tokens) for tokens in texts]))
    assert stub.options == [{"is_tokenized": True}]
    assert stub.chunks == [3]  # the two that are the same are sent once


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        (["a"], BadInputType, r"texts\[0\] is a str: with is_tokenized=True it must be a list"),
        ([["a"], []], BadInputValue, r"texts\[1\] has no token"),
        ([["a", 1]], BadInputType, r"texts\[0\]\[1\] is a int: a token is a str"),
        ([["a", " "]], BadInputValue, r"texts\[0\]\[1\] is blank"),
        ([["a" * 2**20] * 11], BadInputValue, r"texts\[0\] has \d+ characters: at most"),
        ((["a"],), BadInputType, "must be a list of lists of str"),
    ],
)
def test_what_is_not_tokenized(
    client: BertClient, texts: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        client.encode(texts, is_tokenized=True)


def test_a_generator_by_mistake(client: BertClient) -> None:
    texts: Any = (text for text in "ab")
    with pytest.raises(BadInputType, match=r"a generator: it must be a list of str; encode_stream"):
        client.encode(texts)


def test_tokens_by_mistake(client: BertClient) -> None:
    with pytest.raises(BadInputType, match=r"texts\[0\] is a list of tokens: say is_tokenized"):
        client.encode([["a", "b"]])


def test_what_comes_late_is_checked_too(client: BertClient, stub: Stub) -> None:
    texts: Any = [["a"]] * 5000 + [["b", 1]]
    with pytest.raises(BadInputType, match=r"texts\[5000\]\[1\] is a int"):
        client.encode(texts, is_tokenized=True)
    texts[-1] = {"b": 1}
    with pytest.raises(BadInputType, match=r"texts\[5000\] is a dict"):
        client.encode(texts, is_tokenized=True)


def test_the_caller_may_change_the_tokens_after_the_call(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()
    texts = [["a", "b"], ["c"]]
    future = client.encode_async(texts, is_tokenized=True)
    texts[0].append("d")
    stub.gate.set()
    np.testing.assert_array_equal(future.result(20), rows(["a b", "c"]))


def test_show_tokens(client: BertClient, stub: Stub) -> None:
    texts = [f"{number % 300} w" for number in range(700)]
    vectors, tokens = client.encode(texts, show_tokens=True)
    np.testing.assert_array_equal(vectors, rows(texts))
    assert tokens == [text.split() for text in texts]
    assert tokens[0] is not tokens[300]  # each sentence its own list
    assert len(stub.chunks) == 2


def test_show_tokens_as_lists(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url, output_fmt="list", timeout=30) as client:
        assert client.encode(["a b"], show_tokens=True) == (rows(["a b"]).tolist(), [["a", "b"]])


def test_requests_of_a_kind_share_a_chunk(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()
    client.encode_async(["first"])
    eventually(lambda: stub.asked == 1)
    plain = [client.encode_async([text]) for text in "ab"]
    shown = [client.encode_async([f"{text} {text}"], show_tokens=True) for text in "cde"]
    stub.gate.set()
    wait([*plain, *shown], 20)
    for text, future in zip("ab", plain, strict=True):
        np.testing.assert_array_equal(future.result(), rows([text]))
    for text, future in zip("cde", shown, strict=True):
        vectors, tokens = future.result()
        np.testing.assert_array_equal(vectors, rows([f"{text} {text}"]))
        assert tokens == [[text, text]]
    assert [(o == {"show_tokens": True}) for o in stub.options].count(True) == len(stub.chunks) - 2


def test_tokens_that_do_not_come(client: BertClient, stub: Stub) -> None:
    def forgetful(request: Any, redis: Redis, texts: list[str], options: Any) -> ChunkResult:
        return ChunkResult(rows(texts), "f")

    stub.encode = forgetful  # type: ignore[method-assign]
    with pytest.raises(WireError, match=r"the wordpieces of chunk .* are missing"):
        client.encode(["a"], show_tokens=True)


# -- sentences that are too long


def test_one_warning_says_how_many_were_cut(client: BertClient, stub: Stub) -> None:
    texts = [LONG if number % 3 == 0 else f"{number}" for number in range(900)]
    texts[3] += " eleven"
    with pytest.warns(TruncationWarning) as caught:
        client.encode(texts)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith(
        f"cut, 300 of 900 sentences: they have more wordpieces than the {MAX_WORDS} "
    )
    assert caught[0].filename == __file__


def test_the_warning_names_the_line_that_waits(client: BertClient, stub: Stub) -> None:
    async def wait_for_it() -> None:
        await client.encode_async([LONG])

    with pytest.warns(TruncationWarning) as caught:
        asyncio.run(wait_for_it())
    assert [warning.filename for warning in caught] == [__file__]


def test_a_future_warns_once(client: BertClient, stub: Stub) -> None:
    future = client.encode_async([LONG, "a"])
    with pytest.warns(TruncationWarning, match="cut, 1 of 2"):
        future.result(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        future.result()


def test_who_shares_a_chunk_hears_of_its_own(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()
    client.encode_async(["first"])
    eventually(lambda: stub.asked == 1)
    futures = [client.encode_async(["a"]), client.encode_async([LONG, LONG, "b"])]
    stub.gate.set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        futures[0].result(20)
    with pytest.warns(TruncationWarning, match="cut, 2 of 3"):
        futures[1].result(20)
    assert stub.chunks == [1, 3]


def test_check_length_can_be_switched_off(redis_url: str, stub: Stub) -> None:
    with (
        BertClient(redis_url=redis_url, check_length=False, timeout=30) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        client.encode([LONG])


def test_truncate_error_names_the_sentences(client: BertClient, stub: Stub) -> None:
    np.testing.assert_array_equal(client.encode(["a"], truncate="error"), rows(["a"]))
    with pytest.raises(SentenceTooLong) as caught:
        client.encode(["a", LONG, "b", LONG], truncate="error")
    assert caught.value.rows == (1, 3)
    assert caught.value.max_seq_len == MAX_WORDS
    assert str(caught.value).startswith("texts[1], texts[3] have more wordpieces than the 20 that")
    assert "texts[1] has" in str(SentenceTooLong([1], 25))
    assert "texts[7] and 3 more have" in str(SentenceTooLong(range(11), 25))
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (copied.rows, str(copied)) == ((1, 3), str(caught.value))


def test_only_the_request_with_the_long_sentence_fails(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()
    client.encode_async(["first"])
    eventually(lambda: stub.asked == 1)
    good = client.encode_async(["a"], truncate="error")
    bad = client.encode_async(["b", LONG], truncate="error")
    stub.gate.set()
    np.testing.assert_array_equal(good.result(20), rows(["a"]))
    with pytest.raises(SentenceTooLong) as caught:
        bad.result(20)
    assert caught.value.rows == (1,)


# -- other versions


@pytest.mark.parametrize("check", [True, False])
def test_a_worker_of_another_version_is_told_of_once(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture, check: bool
) -> None:
    other = advert(["bertq.small"])
    other.versions["bertq"] = "7.1"
    adverts.publish(redis, other)
    with BertClient(redis_url=redis_url, check_version=check, timeout=1) as client:
        for _ in range(2):
            client.encode_async(["a"]).cancel()
            client._session.fleet._read_at = -100.0
            client._session.fleet.refresh()
    told = [record for record in caplog.records if "has bertq 7.1" in record.getMessage()]
    assert len(told) == check
    if told:
        assert "worker stub@test" in told[0].getMessage()
