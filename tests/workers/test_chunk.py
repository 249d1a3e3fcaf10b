"""Sentences and rows of a chunk in the worker: refused input, and post-processing of rows."""

from typing import Any

import numpy as np
import pytest

from bertq import SparseRows
from bertq.errors import BadInputType, BadInputValue, SentenceTooLong
from bertq.protocol.encoding import PLAIN, Encoding
from bertq_bert.errors import UnsuitedRows
from bertq_workers.batching import chunk
from bertq_workers.batching.chunk import TokenizerError


@pytest.mark.parametrize(
    "texts", [None, "a", {"a": 1}, [1], ["a", None], [["a"]], [["a", 1]], [["a", "b", "c"]], [[]]]
)
def test_arguments_that_are_not_a_chunk(texts: Any) -> None:
    chunk.check(["a", ["a", "b"], "c"])
    with pytest.raises(BadInputType, match="a chunk must be a list"):
        chunk.check(texts)


@pytest.mark.parametrize("texts", [None, ["a"], [[]], [["a"], []], [["a", 1]], [[["a"]]]])
def test_arguments_that_are_not_a_tokenized_chunk(texts: Any) -> None:
    chunk.check([["a", "b"], ["c"]], is_tokenized=True)
    with pytest.raises(BadInputType, match=r"chunk must be a list"):
        chunk.check(texts, is_tokenized=True)


def test_chunks_out_of_bounds() -> None:
    chunk.check(["a"])
    with pytest.raises(BadInputValue, match="0 sentences"):
        chunk.check([])
    with pytest.raises(BadInputValue, match="4097 sentences"):
        chunk.check(["a"] * 4097)
    with pytest.raises(BadInputValue, match="characters"):
        chunk.check(["a" * (10 * 2**20 + 1)])
    with pytest.raises(BadInputValue, match="characters"):
        chunk.check([["a" * 6 * 2**20] * 2])
    with pytest.raises(BadInputValue, match="characters"):
        chunk.check([["a"] * (5 * 2**20 + 1)], is_tokenized=True)


class Cutting:
    """An encoder that has cut every second sentence."""

    max_seq_len = 25
    task = "embed"
    normalized = False
    row_shape = (2,)
    int8_ranges: Any = None

    def __init__(self, **fields: Any) -> None:
        self.asked: dict[str, Any] = {}
        vars(self).update(fields)

    def prompt_text(self, **choice: Any) -> str | None:
        known = {"query": "q: "}
        name = choice["prompt_name"] or choice["input_type"]
        return known[name] if name else choice["prompt"]

    def tokenize(self, texts: list[str], **options: Any) -> tuple[list[list[int]], list[int]]:
        self.asked = options
        return [[1, 2]] * len(texts), list(range(1, len(texts), 2))

    def check(self, ids: Any) -> None:
        """Accept everything."""


PLAIN_TEXT = {"is_tokenized": False, "truncate": "right", "pairs": None, "prompt": None}


def test_the_texts_that_are_tokenized() -> None:
    encoder: Any = Cutting()
    assert chunk.tokenize(encoder, ["a", "b"], PLAIN) == ([[1, 2]] * 2, [1])
    assert encoder.asked == PLAIN_TEXT
    chunk.tokenize(encoder, [["a"]], Encoding(is_tokenized=True, truncate="left"))
    # Tokens have no prompt, be it the model's default one.
    assert encoder.asked == {**PLAIN_TEXT, "is_tokenized": True, "truncate": "left", "prompt": ""}
    chunk.tokenize(encoder, [["a", "b"]], Encoding(pairs=False, prompt="p: "))
    assert encoder.asked == {**PLAIN_TEXT, "pairs": False, "prompt": "p: "}
    for encoding in (Encoding(prompt_name="query"), Encoding(input_type="query")):
        chunk.tokenize(encoder, ["a"], encoding)
        assert encoder.asked == {**PLAIN_TEXT, "prompt": "q: "}
    chunk.tokenize(encoder, ["a"], Encoding(truncate="error"))
    with pytest.raises(SentenceTooLong) as caught:
        chunk.tokenize(encoder, ["a"] * 4, Encoding(truncate="error"))
    assert (caught.value.rows, caught.value.max_seq_len) == ((1, 3), 25)


@pytest.mark.parametrize(
    ("fields", "encoding"),
    [
        ({}, Encoding(dimensions=3)),
        ({}, Encoding(precision="int8")),
        ({"row_shape": (None, 2)}, Encoding(precision="binary")),
        ({"task": "score"}, Encoding(normalize=True)),
        ({"task": "sparse"}, Encoding(dimensions=1)),
    ],
)
def test_rows_that_the_model_does_not_give_are_not_computed(
    fields: dict[str, Any], encoding: Encoding
) -> None:
    encoder: Any = Cutting(**fields)
    with pytest.raises(UnsuitedRows):
        chunk.tokenize(encoder, ["a"], encoding)
    assert encoder.asked == {}


def test_an_error_of_the_tokenizer_quotes_nothing() -> None:
    class Broken(Cutting):
        def tokenize(self, texts: list[str], **_: Any) -> Any:
            raise ValueError(f"cannot read {texts[0]}")

    encoder: Any = Broken()
    with pytest.raises(TokenizerError, match=r"refused the chunk \(ValueError\)") as caught:
        chunk.tokenize(encoder, ["a secret"], PLAIN)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("normalized", [True, False])
def test_rows_are_normalized_as_the_model_says_or_the_request(normalized: bool) -> None:
    encoder: Any = Cutting(normalized=normalized)
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]], np.float32)
    ones = np.array([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]])
    for choice in (None, True, False):
        done: Any = chunk.finish(encoder, rows.copy(), Encoding(normalize=choice))
        expected: Any = ones if (normalized if choice is None else choice) else rows
        np.testing.assert_allclose(done, expected, rtol=1e-6)
        assert done.dtype == np.float32


def test_rows_are_shortened_and_quantized() -> None:
    ranges = np.array([[-1.0], [1.0]], np.float32)
    encoder: Any = Cutting(normalized=True, int8_ranges=ranges)
    rows = np.array([[0.1, -2.5]], np.float32)
    done: Any = chunk.finish(encoder, rows, Encoding(dimensions=1, precision="uint8"))
    assert (done.dtype, done.tolist()) == ("uint8", [[254]])
    done = chunk.finish(encoder, rows, Encoding(precision="ubinary"))
    assert (done.dtype, done.tolist()) == ("uint8", [[128]])
    with pytest.raises(OverflowError, match="too large for float16"):
        chunk.finish(encoder, rows * 1e6, Encoding(normalize=False, precision="float16"))


def test_sparse_rows_are_compressed() -> None:
    encoder: Any = Cutting(task="sparse")
    rows = np.array([[0.0, 2.5], [0.0, 0.0]], np.float32)
    done = chunk.finish(encoder, rows, Encoding(precision="float16"))
    assert isinstance(done, SparseRows)
    assert (str(done.dtype), list(done)) == ("float16", [{1: 2.5}, {}])
