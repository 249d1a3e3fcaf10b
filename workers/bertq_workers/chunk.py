"""A chunk's sentences on their way to the model, and its rows on their way back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bertq.encoding import Encoding
from bertq.errors import BadInputType, BadInputValue, SentenceTooLong
from bertq.limits import CHUNK_CHARACTERS, SENTENCE_CHARACTERS, WORKER_CHUNK_ROWS
from bertq_bert.errors import ModelError

if TYPE_CHECKING:
    from bertq_bert import Encoder
    from bertq_bert.checkpoint import Array

#: Characters of a chunk that a worker accepts: a full one, or a single long sentence.
MAX_CHARACTERS = max(CHUNK_CHARACTERS, SENTENCE_CHARACTERS)


class TokenizerError(Exception):
    """A chunk cannot be cut into wordpieces."""


def tokenize(
    encoder: "Encoder", texts: Any, encoding: Encoding
) -> tuple[Sequence[Sequence[int]], list[int]]:
    """Return the token ids of a chunk's sentences, and which of them were cut.

    Raises:
        BadInputType, BadInputValue: it is no chunk, or one that this model cannot read.
        SentenceTooLong: sentences would have to be cut, and must not.
        TokenizerError: the text cannot be cut into wordpieces.
    """
    check(texts, is_tokenized=encoding.is_tokenized)
    end = "left" if encoding.truncate == "left" else "right"
    try:
        ids, cut = encoder.tokenize(texts, is_tokenized=encoding.is_tokenized, truncate=end)
    except ModelError:
        raise
    except Exception as error:
        # The message of a tokenizer's error may quote the sentence.
        raise TokenizerError(f"the tokenizer refused the chunk ({type(error).__name__})") from None
    if cut and encoding.truncate == "error":
        raise SentenceTooLong(cut, encoder.max_seq_len)
    encoder.check(ids)
    return ids, cut


def check(texts: Any, *, is_tokenized: bool = False) -> None:
    """Refuse what no client of bertq sends.

    Raises:
        BadInputType: not a list of str, or of lists of str.
        BadInputValue: no sentence, or too many, or too long.
    """
    if not isinstance(texts, list):
        raise BadInputType("a chunk must be a list")
    if is_tokenized and not all(isinstance(tokens, list) and tokens for tokens in texts):
        raise BadInputType("a tokenized chunk must be a list of lists of str")
    strings = [token for tokens in texts for token in tokens] if is_tokenized else texts
    if not all(isinstance(text, str) for text in strings):
        raise BadInputType("a chunk must be a list of str, or of lists of str where tokenized")
    if not 0 < len(texts) <= WORKER_CHUNK_ROWS:
        raise BadInputValue(f"a chunk of {len(texts)} sentences: from 1 to {WORKER_CHUNK_ROWS} go")
    characters = sum(map(len, strings)) + (len(strings) if is_tokenized else 0)
    if characters > MAX_CHARACTERS:
        raise BadInputValue(f"a chunk of {characters} characters: at most {MAX_CHARACTERS} go")


def finish(rows: "Array", encoding: Encoding) -> Any:
    """Return rows as they were asked for.

    Args:
        rows: float32 ``[n, *row_shape]``; may be changed.
        encoding: whether they are normalised, a row of zeros excepted (of token vectors each of
            its own), and which type they get.

    Raises:
        OverflowError: a number is too large for float16.
    """
    if encoding.normalize:
        # float64: the squares of small numbers are none in float32
        norms = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
        rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    if encoding.dtype == "float32":
        return rows
    with np.errstate(over="ignore"):
        halves = rows.astype(np.float16)
    if not np.isfinite(halves).all():
        raise OverflowError("a number of the vectors is too large for float16: take float32")
    return halves
