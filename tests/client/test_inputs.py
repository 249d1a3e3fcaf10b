"""What a client takes as texts: lists, tuples, arrays, series; and what it drops from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq import BertClient
from bertq.errors import BadInputType, BadInputValue
from bertq_client.inputs import PART_ROWS
from tests.client.stub import Stub, rows

TEXTS = ["a sentence", "another", "the third"]

HALF = "\ud83d"  # the first half of an emoji


class Series:
    """A series of pandas, or of polars, as far as a client knows it."""

    def __init__(self, name: str, values: Any) -> None:
        setattr(self, name, lambda: values)


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        Series("tolist", TEXTS),
        Series("to_list", TEXTS),
    ],
    ids=["list", "tuple", "array", "array of objects", "tolist", "to_list"],
)
def test_sequences(client: BertClient, stub: Stub, texts: Any) -> None:
    np.testing.assert_array_equal(client.encode(texts), rows(TEXTS))
    np.testing.assert_array_equal(client.encode_async(texts).result(20), rows(TEXTS))
    np.testing.assert_array_equal(client.submit(texts).result(20), rows(TEXTS))


def test_a_series_of_pandas(client: BertClient, stub: Stub) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": [*TEXTS, None]}, index=[7, 3, 5, 1])
    np.testing.assert_array_equal(client.encode(frame["text"][:3]), rows(TEXTS))
    with pytest.raises(BadInputType, match=r"texts\[3\] is a .*: it must be a str"):
        client.encode(frame["text"])
    with pytest.raises(BadInputType, match="texts is a DataFrame: it must be a list, tuple or"):
        client.encode(frame)


def test_an_array_of_pairs(client: BertClient, stub: Stub) -> None:
    pairs = np.array([["a", "b"], ["c", "d"]])
    np.testing.assert_array_equal(client.encode(pairs), rows(["a b", "c d"]))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a sentence", r"texts is a str: for one sentence give a list of one, \['\.\.\.'\]"),
        (b"a sentence", "texts is a bytes: for one sentence"),
        (iter(TEXTS), "texts is a list_iterator: .*; encode_stream takes iterators of sentences"),
        ((text for text in TEXTS), "texts is a generator: .*; encode_stream takes iterators"),
        (set(TEXTS), "texts is a set: it must be a list, tuple or array of str"),
        (dict.fromkeys(TEXTS), "texts is a dict: it must be a list, tuple or array of str"),
        (None, "texts is a NoneType: it must be"),
        (np.array("a"), "texts is a ndarray: it must be"),
        (np.array([1.5]), r"texts\[0\] is a float: it must be a str"),
    ],
)
def test_other_types(client: BertClient, texts: Any, message: str) -> None:
    for call in (client.encode, client.encode_async, client.submit):
        with pytest.raises(BadInputType, match=message):
            call(texts)


@pytest.mark.parametrize("texts", [[], (), np.array([], str)])
def test_nothing(client: BertClient, texts: Any) -> None:
    with pytest.raises(BadInputValue, match=r"texts is an empty (list|tuple|ndarray)"):
        client.encode(texts)


# -- lone surrogates


@pytest.mark.parametrize("before", [0, PART_ROWS])
def test_lone_surrogates_are_dropped(client: BertClient, stub: Stub, before: int) -> None:
    expected = ["x"] * before + ["ab", "ab", "b", "😀é", "pair of sentences"]
    texts: list[Any] = ["x"] * before + [f"a{HALF}b", "ab", f"{HALF}b", "\ud83d\ude00é"]
    texts.append((f"pair{HALF}", f"of sentences{HALF}"))
    np.testing.assert_array_equal(client.encode(texts), rows(expected))
    assert sum(stub.chunks) == len(set(expected))  # duplicates are removed afterwards
    np.testing.assert_array_equal(client.submit(texts).result(20), rows(expected))
    vectors = np.concatenate([batch.vectors for batch in client.encode_stream(texts, 2048)])
    np.testing.assert_array_equal(vectors, rows(expected))


def test_in_tokens_and_prompts(client: BertClient, stub: Stub) -> None:
    tokens = [[f"a{HALF}", "b"]]
    np.testing.assert_array_equal(client.encode(tokens, is_tokenized=True), rows(["a b"]))
    client.encode(["a"], prompt=f"query{HALF}: ")
    assert stub.options[-1]["prompt"] == "query: "


@pytest.mark.parametrize("before", [0, PART_ROWS])
@pytest.mark.parametrize("text", [HALF, f" {HALF}", ("a", HALF)])
def test_a_text_of_nothing_else_is_blank(client: BertClient, before: int, text: Any) -> None:
    with pytest.raises(BadInputValue, match=rf"texts\[{before}\].* is blank"):
        client.encode(["x"] * before + [text])


def test_in_a_file(client: BertClient, stub: Stub, tmp_path: Path) -> None:
    lines = ['{"text": "a\\ud83db"}', '{"text": "\\ud83d"}', '{"text": ["c\\ud83d", "d"]}']
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    client.encode_file(tmp_path / "corpus.jsonl", tmp_path / "v.npy", blank="zero")
    expected = rows(["ab", "x", "c d"])
    expected[1] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)
    with pytest.raises(BadInputValue, match="line 2: it is blank"):
        client.encode_file(tmp_path / "corpus.jsonl", tmp_path / "w.npy")
