"""The sentences of a chunk, tokenized for the model, and the model's rows, as requested."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore

from bertq.errors import BadInputType, BadInputValue, SentenceTooLong
from bertq.protocol.encoding import Encoding
from bertq.protocol.limits import (
    MAX_CHUNK_CHARACTERS,
    MAX_SENTENCE_CHARACTERS,
    MAX_WORKER_CHUNK_ROWS,
)
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq_bert.errors import ModelError
from bertq_bert.quantization import check_request, finish_rows

if TYPE_CHECKING:
    from bertq_bert import Encoder
    from bertq_bert.checkpoint import Array

#: Time to wait for rows before the job of a chunk is checked again.
JOB_CHECK_SECONDS = 1.0

#: Maximum characters of a chunk that a worker accepts: a full chunk, or a single long sentence.
MAX_CHARACTERS = max(MAX_CHUNK_CHARACTERS, MAX_SENTENCE_CHARACTERS)


class TokenizerError(Exception):
    """A chunk cannot be tokenized."""


def tokenize(
    encoder: "Encoder", texts: Any, encoding: Encoding
) -> tuple[Sequence[Sequence[int]], list[int]]:
    """Return the token ids of a chunk's sentences, and the indices of those that were truncated.

    Raises:
        BadInputType, BadInputValue: it is not a chunk.
        ModelError: this model cannot read the sentences (it has no such prompt, or does not accept
            pairs), or cannot return such rows.
        SentenceTooLong: sentences are too long, and the options do not allow truncating them.
        TokenizerError: the text cannot be tokenized.
    """
    check(texts, is_tokenized=encoding.is_tokenized)
    check_request(
        encoder,
        normalize=encoding.normalize,
        dimensions=encoding.dimensions,
        precision=encoding.precision,
    )
    with hide_texts():
        ids, truncated = encoder.tokenize(
            texts,
            is_tokenized=encoding.is_tokenized,
            truncate="left" if encoding.truncate == "left" else "right",
            pairs=encoding.pairs,
            prompt=prompt_text(encoder, encoding),
        )
    if truncated and encoding.truncate == "error":
        raise SentenceTooLong(truncated, encoder.max_seq_len)
    encoder.check(ids)
    return ids, truncated


@contextmanager
def hide_texts() -> Iterator[None]:
    """Replace errors of a tokenizer, whose messages may quote the sentence.

    Raises:
        TokenizerError: there was such an error.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise TokenizerError(f"the tokenizer refused the chunk ({type(error).__name__})") from None


def prompt_text(encoder: "Encoder", encoding: Encoding) -> str | None:
    """Return the text to put before each sentence, as ``Encoder.tokenize`` takes it."""
    if encoding.is_tokenized:
        return ""  # tokens are looked up unchanged
    return encoder.prompt_text(
        prompt_name=encoding.prompt_name, prompt=encoding.prompt, input_type=encoding.input_type
    )


def check(texts: Any, *, is_tokenized: bool = False) -> None:
    """Refuse texts that no client of bertq sends.

    Raises:
        BadInputType: not a list of str and of pairs of them, or of lists of str.
        BadInputValue: there are no sentences or too many, or they are too long.
    """
    if not isinstance(texts, list):
        raise BadInputType("a chunk must be a list")
    if is_tokenized and not all(isinstance(tokens, list) and tokens for tokens in texts):
        raise BadInputType("a tokenized chunk must be a list of lists of str")
    if not is_tokenized and not all(len(pair) == 2 for pair in texts if isinstance(pair, list)):
        raise BadInputType("a chunk must be a list of str, or of pairs of them")
    strings = [part for text in texts for part in (text if isinstance(text, list) else [text])]
    if not all(isinstance(text, str) for text in strings):
        raise BadInputType("a chunk must be a list of str, or of lists of str if it is tokenized")
    if not 0 < len(texts) <= MAX_WORKER_CHUNK_ROWS:
        raise BadInputValue(
            f"a chunk of {len(texts)} sentences: it must have 1 to {MAX_WORKER_CHUNK_ROWS}"
        )
    separators = sum(len(text) for text in texts if isinstance(text, list))
    characters = sum(map(len, strings)) + separators
    if characters > MAX_CHARACTERS:
        raise BadInputValue(
            f"a chunk of {characters} characters: it may have at most {MAX_CHARACTERS}"
        )


def wait_for_rows(
    future: "Future[Any]",
    is_active: Callable[[], bool],
    check_seconds: float = JOB_CHECK_SECONDS,
) -> Any:
    """Return a chunk's rows; check at intervals whether its job is still active.

    Raises:
        Ignore: the job is not active any more, and no row was computed yet.
    """
    while True:
        try:
            return future.result(check_seconds)
        except TimeoutError:
            if future.done():
                return future.result()  # the batch raised it, or the rows have just arrived
        if not is_active() and future.cancel():
            raise Ignore()


def finish(encoder: "Encoder", rows: "Array", encoding: Encoding) -> AnyRows:
    """Return rows in the requested form; as sparse rows for a sparse model.

    Args:
        encoder: the model that computed them.
        rows: float32 ``[n, *row_shape]``; may be modified.
        encoding: the requested form.

    Raises:
        OverflowError: a number is too large for the precision.
    """
    normalize = encoder.normalized if encoding.normalize is None else encoding.normalize
    finished = finish_rows(
        rows,
        normalize=normalize,
        dimensions=encoding.dimensions,
        precision=encoding.precision,
        int8_ranges=encoder.int8_ranges,
    )
    return SparseRows.from_dense(finished) if encoder.task == "sparse" else finished
