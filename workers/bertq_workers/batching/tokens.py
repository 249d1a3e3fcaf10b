"""Answers to requests for tokens or texts instead of rows; the model does not run for them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bertq.errors import BadInputType, BadInputValue
from bertq.protocol.encoding import Encoding
from bertq.protocol.limits import MAX_LOCATED_CHARACTERS
from bertq.protocol.tokens import Token
from bertq.protocol.wire import ChunkResult
from bertq_workers.batching import chunk

if TYPE_CHECKING:
    from bertq_bert import Encoder


def answer(encoder: "Encoder", texts: Any, encoding: Encoding) -> ChunkResult:
    """Return the tokens of a chunk's texts, or the texts of its token ids; its rows are empty.

    Raises:
        BadInputType, BadInputValue: it is not a chunk, or the texts are pairs or too long.
        ModelError: the model has no such prompt or id.
        TokenizerError: the text cannot be tokenized.
    """
    chunk.check(texts, is_tokenized=encoding.is_tokenized)
    if sum(map(_count_characters, texts)) > MAX_LOCATED_CHARACTERS:
        raise BadInputValue(
            f"a request for tokens may have at most {MAX_LOCATED_CHARACTERS} characters: send "
            "several"
        )
    found: list[list[Any]]
    if encoding.output == "tokens":
        found = _locate(encoder, texts, encoding)
    else:
        found = [[text] for text in _decode(encoder, texts, encoding)]
    lengths = list(map(len, found)) if encoding.count_tokens else None
    rows = np.zeros((len(texts), 0), np.float32)
    return ChunkResult(rows, encoder.fingerprint, found, lengths=lengths)


def _count_characters(text: str | Sequence[str]) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))


def _locate(encoder: "Encoder", texts: list[Any], encoding: Encoding) -> list[list[Any]]:
    if not all(isinstance(text, str) for text in texts):
        raise BadInputType("only of a str, not of a pair or of tokens, there are places of tokens")
    with chunk.hide_texts():
        found = encoder.locate(
            texts,
            prompt=chunk.prompt_text(encoder, encoding),
            special_tokens=encoding.special_tokens,
        )
    return [[Token(*token) for token in row] for row in found]


def _decode(encoder: "Encoder", texts: list[Any], encoding: Encoding) -> list[str]:
    if not encoding.is_tokenized or not all(
        number.isdecimal() and number.isascii() and len(number) < 10
        for row in texts
        for number in row
    ):
        raise BadInputType("token ids must be lists of decimal numbers below 10**9")
    ids = [list(map(int, row)) for row in texts]
    with chunk.hide_texts():
        return encoder.decode(ids, skip_special=not encoding.special_tokens)
