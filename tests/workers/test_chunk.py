"""A chunk's sentences and rows in the worker: what is refused, how rows are finished."""

from typing import Any

import numpy as np
import pytest

from bertq.encoding import PLAIN, Encoding
from bertq.errors import BadInputType, BadInputValue, SentenceTooLong
from bertq_workers import chunk
from bertq_workers.chunk import TokenizerError


@pytest.mark.parametrize("texts", [None, "a", {"a": 1}, [1], ["a", None], [["a"]]])
def test_what_is_no_chunk(texts: Any) -> None:
    with pytest.raises(BadInputType, match="a chunk must be a list"):
        chunk.check(texts)


@pytest.mark.parametrize("texts", [None, ["a"], [[]], [["a"], []], [["a", 1]], [[["a"]]]])
def test_what_is_no_tokenized_chunk(texts: Any) -> None:
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
        chunk.check([["a"] * (5 * 2**20 + 1)], is_tokenized=True)


class Cutting:
    """An encoder that has cut every second sentence."""

    max_seq_len = 25

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def tokenize(self, texts: list[str], **options: Any) -> tuple[list[list[int]], list[int]]:
        self.asked = options
        return [[1, 2]] * len(texts), list(range(1, len(texts), 2))

    def check(self, ids: Any) -> None:
        """Accept everything."""


def test_what_the_tokenizer_is_asked() -> None:
    encoder: Any = Cutting()
    assert chunk.tokenize(encoder, ["a", "b"], PLAIN) == ([[1, 2]] * 2, [1])
    assert encoder.asked == {"is_tokenized": False, "truncate": "right"}
    chunk.tokenize(encoder, [["a"]], Encoding(is_tokenized=True, truncate="left"))
    assert encoder.asked == {"is_tokenized": True, "truncate": "left"}
    chunk.tokenize(encoder, ["a"], Encoding(truncate="error"))
    with pytest.raises(SentenceTooLong) as caught:
        chunk.tokenize(encoder, ["a"] * 4, Encoding(truncate="error"))
    assert (caught.value.rows, caught.value.max_seq_len) == ((1, 3), 25)


def test_an_error_of_the_tokenizer_quotes_nothing() -> None:
    class Broken:
        def tokenize(self, texts: list[str], **_: Any) -> Any:
            raise ValueError(f"cannot read {texts[0]}")

    encoder: Any = Broken()
    with pytest.raises(TokenizerError, match=r"refused the chunk \(ValueError\)") as caught:
        chunk.tokenize(encoder, ["a secret"], PLAIN)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_rows_are_normalised() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]], np.float32)
    done = chunk.finish(rows.copy(), Encoding(normalize=True))
    np.testing.assert_allclose(done, np.array([[0.6, 0.8], [0, 0], [1, 0]]), rtol=1e-6)
    assert done.dtype == np.float32
    tokens = np.stack([rows[:2], rows[:2] * 7])
    done = chunk.finish(tokens.copy(), Encoding(normalize=True))
    np.testing.assert_allclose(done, np.array([[[0.6, 0.8], [0, 0]]] * 2), rtol=1e-6)
    np.testing.assert_array_equal(chunk.finish(rows, PLAIN), rows)


def test_rows_of_half_the_bytes() -> None:
    rows = np.array([[0.1, -2.5]], np.float32)
    done = chunk.finish(rows, Encoding(dtype="float16"))
    assert done.dtype == np.float16
    np.testing.assert_array_equal(done, rows.astype(np.float16))
    with pytest.raises(OverflowError, match="too large for float16: take float32"):
        chunk.finish(rows * 1e6, Encoding(dtype="float16"))
