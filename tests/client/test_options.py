"""Options of a request, on a stub worker."""

import asyncio
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import (
    BadInput,
    BadInputType,
    BadInputValue,
    SentenceTooLong,
    TruncationWarning,
    WireError,
)
from bertq.protocol.encoding import PRECISIONS, Encoding, Options
from bertq.protocol.tokens import Token
from bertq.protocol.wire import ChunkResult
from bertq.redis.redis_url import from_address
from bertq.state import worker_info
from tests.client.stub import MAX_WORDS, Stub, info, rows
from tests.waiting import eventually

LONG = "word " * MAX_WORDS + "more"


def test_options_go_with_each_chunk(client: BertClient, stub: Stub) -> None:
    client.encode(["a"])
    options: Options = {
        "normalize": False, "truncate": "left", "precision": "float16", "prompt_name": "query",
        "dimensions": 3, "pairs": True,
    }  # fmt: skip
    vectors = client.encode(["a", "b"], **options)
    assert vectors.dtype == np.float16
    np.testing.assert_array_equal(vectors, rows(["a", "b"]))
    client.encode(["a"], prompt="")
    assert stub.options == [{}, options, {"prompt": ""}]


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_small_types_come_as_they_are(client: BertClient, stub: Stub, precision: Any) -> None:
    texts = [f"{number}" for number in range(300)] * 2
    vectors = client.encode(texts, precision=precision)
    assert vectors.dtype == PRECISIONS[precision]
    np.testing.assert_array_equal(vectors, rows(texts))


def test_queries_and_documents(client: BertClient, stub: Stub) -> None:
    client.encode_query(["a"], precision="float16")
    client.encode_document(["a"], normalize=True)
    number = client.encode_query(["a"], False, prompt_name="web")
    client.encode_document(["a"], prompt="doc: ")
    assert [found for found, _ in client.fetch()] == [number]
    assert stub.options == [
        {"precision": "float16", "input_type": "query"},
        {"normalize": True, "input_type": "document"},
        {"prompt_name": "web"},
        {"prompt": "doc: "},
    ]
    with pytest.raises(BadInputValue, match="this call sets input_type itself"):
        client.encode_query(["a"], input_type="document")


def test_requests_with_other_prompts_share_no_chunk(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()
    client.encode_async(["first"])
    eventually(lambda: stub.asked == 1)
    prompts = ["q: ", "q: ", "d: ", None]
    futures = [client.encode_async(["a"], prompt=prompt) for prompt in prompts]
    stub.gate.set()
    wait(futures, 20)
    assert stub.chunks == [1, 1, 1, 1]  # the two of a kind have the same text
    assert sorted(options.get("prompt", "") for options in stub.options[1:]) == ["", "d: ", "q: "]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate": "middle"}, "truncate must be one of 'right', 'left', 'error'"),
        ({"precision": "float64"}, "precision must be one of 'float32', 'float16', 'int8'"),
        ({"precision": np.float16}, "precision must be one of"),
        ({"normalize": 1}, "normalize must be True, False or None"),
        ({"pairs": "yes"}, "pairs must be True, False or None"),
        ({"dimensions": 0}, "dimensions is 0: it must be a whole number above zero"),
        ({"prompt_name": "a", "prompt": "b"}, "prompt_name and prompt are given: take one"),
        ({"prompt": "", "input_type": "query"}, "prompt and input_type are given: take one"),
        ({"prompt": "x" * 4097}, "prompt has 4097 characters: at most 4096 are allowed"),
        ({"prompt_name": "x" * 257}, "prompt_name has 257 characters: at most 256 are allowed"),
        ({"prompt": "q: ", "is_tokenized": True}, "prompt is for text"),
        ({"is_tokenized": "yes"}, "is_tokenized must be True or False"),
        ({"show_tokens": None}, "show_tokens must be True or False"),
        ({"progress": True, "blocking": False}, "progress=True needs blocking=True"),
    ],
)
def test_wrong_options(client: BertClient, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputValue, match=message):
        client.encode(["a"], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "there is no option dtype"),
        ({"normalise": True, "speed": 11}, "there is no option normalise, speed"),
        ({"prompt": ["q: "]}, "prompt must be a str, not a list"),
        ({"input_type": 1}, "input_type must be a str, not a int"),
        ({"dimensions": 2.0}, "dimensions must be a whole number, not a float"),
        ({"dimensions": True}, "dimensions must be a whole number, not a bool"),
    ],
)
def test_invalid_options(client: BertClient, options: dict[str, Any], message: str) -> None:
    calls: list[Callable[..., Any]] = [
        client.encode, client.encode_query, client.encode_async, client.submit, client.encode_stream
    ]  # fmt: skip
    for call in calls:
        if "input_type" not in options or call != client.encode_query:
            with pytest.raises(BadInputType, match=message):
                call(["a"], **options)


@pytest.mark.parametrize("number", [np.int64, np.uint8])
def test_whole_numbers_of_numpy(
    redis_url: str, stub: Stub, tmp_path: Path, number: Callable[[int], Any]
) -> None:
    assert from_address("localhost", number(80)) == "redis://localhost:80/0"
    settings: Any = {name: number(30) for name in ("timeout", "max_pending_chunks", "cache")}
    options: Options = {"dimensions": number(3)}
    source = tmp_path / "texts.txt"
    source.write_text("d\ne\n")
    with BertClient(redis_url=redis_url, **settings) as client:
        client.encode(["a"], **options)
        list(client.encode_stream(["b", "c"], number(1), max_requests=number(1), **options))
        client.encode_file(source, tmp_path / "v.npy", batch_size=number(1), **options)
        client.submit(["f"], ttl=number(60), **options).result(number(20))
        assert client.semantic_search(["g"], np.ones((3, rows(["g"]).shape[1])), number(1))
        assert client.cache_info.max_rows == 30
    assert all(asked == {"dimensions": 3} for asked in stub.options[:-1])
    assert stub.options[-1] == {"input_type": "query"}


def test_every_option_is_one_of_a_chunk() -> None:
    assert Options.__annotations__.keys() < {spec.name for spec in fields(Encoding)}
    asked: Options = {"normalize": True, "input_type": "query", "dimensions": 3}
    assert Encoding.from_wire(Encoding.from_options(asked).to_wire()) == Encoding(**asked)


def test_a_prompt_is_shown_nowhere() -> None:
    encoding = Encoding(prompt="a secret")
    assert "secret" not in repr(encoding)
    assert encoding.redact() == {"prompt": "<8 characters>"}
    assert Encoding(prompt="").redact() == {"prompt": ""}
    wrong: list[Options] = [
        {"prompt": "a secret" * 1000},
        {"prompt": "a secret", "prompt_name": "a"},
    ]
    for options in wrong:
        with pytest.raises(BadInputValue) as caught:
            Encoding.from_options(options)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [None, [], {"speed": 11}, {"truncate": "middle"}, {"prompt": 1}, {"dimensions": 0}]
)
def test_unknown_options_are_refused_by_the_worker(options: Any) -> None:
    with pytest.raises(BadInput):
        Encoding.from_wire(options)


# -- tokens


def test_tokenized_sentences(client: BertClient, stub: Stub) -> None:
    texts = [["hello", "##s"], ["b"], ["hello", "##s"], ["hello##s"]]
    vectors = client.encode(texts, is_tokenized=True)
    np.testing.assert_array_equal(vectors, rows([" ".join(tokens) for tokens in texts]))
    assert stub.options == [{"is_tokenized": True}]
    assert stub.chunks == [3]  # the two that are the same are sent once


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["a"], BadInputType, r"texts\[0\] is a str: with is_tokenized=True it must be a list"),
        ([["a"], []], BadInputValue, r"texts\[1\] has no token"),
        ([["a", 1]], BadInputType, r"texts\[0\]\[1\] is a int: a token is a str"),
        ([["a", " "]], BadInputValue, r"texts\[0\]\[1\] is blank"),
        ([["a" * (2**20 + 1)] * 11], BadInputValue, r"texts\[0\] has \d+ characters: at most"),
        ({("a",)}, BadInputType, "must be a list, tuple or array of lists of str"),
    ],
)
def test_invalid_tokens(
    client: BertClient, texts: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.encode(texts, is_tokenized=True)


def test_a_generator_by_mistake(client: BertClient) -> None:
    texts: Any = (text for text in "ab")
    with pytest.raises(BadInputType, match=r"a generator: it must be a .*; encode_stream"):
        client.encode(texts)


@pytest.mark.parametrize("texts", [[["a", "b", "c"]], [["a"]], ["a", ("a",)], [[]]])
def test_tokens_by_mistake(client: BertClient, texts: Any) -> None:
    with pytest.raises(BadInputType, match=r"a pair of sentences has two; of tokens say is_token"):
        client.encode(texts)


def test_late_input_is_checked_too(client: BertClient, stub: Stub) -> None:
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


def test_tokens_without_rows(client: BertClient, stub: Stub) -> None:
    texts = [f"{number % 300} w" for number in range(700)]
    stub.gate.clear()
    futures = [client.encode_async(["a b"]), client.tokenize_async(["a b"])]
    futures += [client.tokenize_async(texts)]
    ids: list[Any] = [[[1, 20], [3]], [np.array([1, 20]), np.array([3])]]
    futures += map(client.decode_async, ids)
    stub.gate.set()
    _, alone, several, *decoded = (future.result(20) for future in futures)
    assert alone == [[Token(1, "a", 0, 1), Token(1, "b", 0, 1)]]
    assert [[token.text for token in row] for row in several] == [text.split() for text in texts]
    assert decoded == [["1 20", "3"]] * 2
    pairs: Any = [("a", "b")]
    wrong_ids: list[Any] = [[["1"]], [[True]], [[-1]], [[1.0]]]
    no_lists: list[Any] = ["1", 1, [1, 2], ["1"]]
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: client.tokenize_async(pairs), r"texts\[0\] is a tuple"),
        (lambda: client.tokenize_async(["a" * (2**20 + 1)]), "more than 1048576 characters"),
        (lambda: client.decode_async([[1], []]), r"ids\[1\] is empty"),
    ]
    wrong += [
        (partial(client.decode_async, ids), r"ids\[0\] .* none of them negative")
        for ids in wrong_ids
    ]
    wrong += [(partial(client.decode_async, ids), "must be a list, not a") for ids in no_lists]
    for call, message in wrong:
        with pytest.raises(BadInput, match=message):
            call()


def test_show_tokens_as_lists(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url, output_fmt="list", timeout=30) as client:
        assert client.encode(["a b"], show_tokens=True) == (rows(["a b"]).tolist(), [["a", "b"]])


def test_requests_of_a_kind_share_a_chunk(client: BertClient, stub: Stub) -> None:
    # Many: the sender may take a request before the next one is there.
    names = [f"w{number}" for number in range(30)]
    plain = [client.encode_async([name]) for name in names]
    shown = [client.encode_async([f"{name} {name}"], show_tokens=True) for name in names]
    wait([*plain, *shown], 20)
    for name, future in zip(names, plain, strict=True):
        np.testing.assert_array_equal(future.result(), rows([name]))
    for name, future in zip(names, shown, strict=True):
        vectors, tokens = future.result()
        np.testing.assert_array_equal(vectors, rows([f"{name} {name}"]))
        assert tokens == [[name, name]]
    for shows_tokens in (False, True):
        sizes = [
            size
            for size, options in zip(stub.chunks, stub.options, strict=True)
            if (options == {"show_tokens": True}) == shows_tokens
        ]
        assert sum(sizes) == len(names)
        assert len(sizes) < len(names)


def test_tokens_that_do_not_come(client: BertClient, stub: Stub) -> None:
    def forgetful(request: Any, redis: Redis, texts: list[str], options: Any) -> ChunkResult:
        return ChunkResult(rows(texts), "f")

    stub.encode = forgetful  # type: ignore[method-assign]
    with pytest.raises(WireError, match=r"the tokens of chunk .* are missing"):
        client.encode(["a"], show_tokens=True)


# -- sentences that are too long


def test_one_warning_says_how_many_were_cut(client: BertClient, stub: Stub) -> None:
    texts = [LONG if number % 3 == 0 else f"{number}" for number in range(900)]
    texts[3] += " eleven"
    with pytest.warns(TruncationWarning) as caught:
        (future := client.encode_async(texts)).result(30)
    assert len(caught) == 1
    assert future.cut_rows == tuple(range(0, 900, 3))
    message = str(caught[0].message)
    assert message.startswith(
        f"cut, 300 of 900 sentences: they have more tokens than the {MAX_WORDS} "
    )
    assert caught[0].filename == __file__


def test_the_warning_points_to_the_line_that_fetches(client: BertClient, stub: Stub) -> None:
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


def test_requests_of_one_chunk_get_their_own_rows(client: BertClient, stub: Stub) -> None:
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
    assert [future.cut_rows for future in futures] == [(), (0, 1)]
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
    assert str(caught.value).startswith("texts[1], texts[3] have more tokens than the 20 that")
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
def test_a_worker_of_another_version_is_one_warning(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture, check: bool
) -> None:
    other = info(["bertq.small"])
    other.versions["bertq"] = "7.1"
    worker_info.publish(redis, other)
    with BertClient(redis_url=redis_url, check_version=check, timeout=1) as client:
        for _ in range(2):
            client.encode_async(["a"]).cancel()
            client.worker_directory.expire()
            client.worker_directory.refresh()
    warnings = [record for record in caplog.records if "has bertq 7.1" in record.getMessage()]
    assert len(warnings) == check
    if warnings:
        assert "worker stub@test" in warnings[0].getMessage()
