"""Errors that name lines of the input instead of sentences of a request."""

from collections.abc import Sequence
from pathlib import Path

from bertq.errors import ModelMismatch, RemoteError, SentenceTooLong

#: Most line numbers in an error.
_MAX_NAMED_LINES = 8


def with_line_numbers(
    error: RemoteError | SentenceTooLong, lines: Sequence[int], name: str
) -> RemoteError | SentenceTooLong:
    """Return the error of a request, naming ``lines`` of the input instead of its sentences."""
    place = _describe_lines([lines[row] for row in error.rows], name)
    if isinstance(error, SentenceTooLong):
        text = (
            f"{place}: more tokens than the {error.max_seq_len} that are read, special tokens "
            'included: shorten, or allow to cut (truncate "right" or "left")'
        )
    else:
        reason = f"{error.type_name}: {error.message}" if error.message else error.type_name
        text = f"{reason} (one of the sentences in {place})" if error.rows else reason
    error.args = (text,)
    return error


def _describe_lines(lines: Sequence[int], name: str) -> str:
    numbers = ", ".join(map(str, lines[:_MAX_NAMED_LINES]))
    more = ", ..." if len(lines) > _MAX_NAMED_LINES else ""
    return f"{name}, line{'s' if len(lines) > 1 else ''} {numbers}{more}"


def model_mismatch(path: Path, earlier: str, current: str) -> ModelMismatch:
    """Return the error that a file would have rows of two models, which fingerprints name."""
    return ModelMismatch(
        f"{path} was begun with model {earlier[:12]}, and the workers have model {current[:12]}: "
        "start workers with the model, max_seq_len and pooling of before, or overwrite the file"
    )
