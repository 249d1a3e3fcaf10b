"""Pairs of sentences: with other sentences, twice, in shared chunks, streams and jobs."""

from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest

from bertq import BertClient
from bertq.errors import BadInputType, BadInputValue
from tests.client.stub import Stub, rows
from tests.client.test_sharing import together


def joined(texts: list[Any]) -> list[str]:
    """The text from which the stub makes the row of a pair."""
    return [text if isinstance(text, str) else " ".join(text) for text in texts]


@pytest.mark.parametrize(
    "texts",
    [
        [("who", "me"), ("who", "you")],
        [["who", "me"], ["who", "you"]],
        ["who", ("who", "me"), ["me", "who"], "who me", "me"],
        [("who", f"{number % 700}") for number in range(1500)],
        [f"{number}" if number % 3 else ("a", f"{number}") for number in range(5000)],
    ],
)
def test_pairs_are_encoded(client: BertClient, stub: Stub, texts: Any) -> None:
    np.testing.assert_array_equal(client.encode(texts), rows(joined(texts)))


def test_a_pair_is_sent_once_and_is_no_sentence(client: BertClient, stub: Stub) -> None:
    texts: list[Any] = [("a", "b"), ["a", "b"], "a b", ("b", "a")]
    np.testing.assert_array_equal(client.encode(texts), rows(joined(texts)))
    assert stub.chunks == [3]


def test_small_requests_with_pairs_share_a_chunk(client: BertClient, stub: Stub) -> None:
    futures = together(client, *([("a", f"{number}"), "c"] for number in range(4)))
    wait(futures, 20)
    for number, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(), rows([f"a {number}", "c"]))
    assert stub.chunks == [1, 5]


def test_pairs_in_streams_and_jobs(client: BertClient, stub: Stub) -> None:
    texts = [("who", f"{number}") for number in range(30)]
    for batch in client.encode_stream(iter(texts), 7, pairs=True):
        part = texts[batch.start : batch.start + 7]
        assert batch.texts == part
        np.testing.assert_array_equal(batch.vectors, rows(joined(part)))
    assert {"pairs": True} in stub.options
    job = client.submit(texts)
    np.testing.assert_array_equal(job.result(20), rows(joined([*texts])))


def test_the_caller_may_change_a_pair_after_the_call(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()
    texts = [["a", "b"], ["c", "d"]]
    future = client.encode_async(texts)
    texts[0][1] = "e"
    stub.gate.set()
    np.testing.assert_array_equal(future.result(20), rows(["a b", "c d"]))


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ([("a", "")], BadInputValue, r"texts\[0\]\[1\] is blank"),
        (["a", (" \n", "b")], BadInputValue, r"texts\[1\]\[0\] is blank"),
        ([("a", 1)], BadInputType, r"texts\[0\]\[1\] is a int: it must be a str"),
        ([("a", ("b", "c"))], BadInputType, r"texts\[0\]\[1\] is a tuple: it must be a str"),
        ([("a", "b", "c")], BadInputType, r"texts\[0\] is a tuple of 3: a pair of sentences has"),
        ([("a" * 6 * 2**20,) * 2], BadInputValue, r"texts\[0\] has \d+ characters: at most"),
        ([{"a", "b"}], BadInputType, r"texts\[0\] is a set: it must be a str, or a pair"),
    ],
)
def test_invalid_pairs(
    client: BertClient, texts: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.encode(texts)


def test_a_pair_that_comes_late_is_checked_too(client: BertClient, stub: Stub) -> None:
    texts: Any = [("a", "b")] * 5000 + [("a", " ")]
    with pytest.raises(BadInputValue, match=r"texts\[5000\]\[1\] is blank"):
        client.encode(texts)
