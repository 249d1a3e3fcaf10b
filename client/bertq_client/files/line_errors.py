"""Errors that name lines of the input instead of sentences of a request."""

from collections.abc import Sequence
from pathlib import Path

from bertq.errors import ModelMismatch, RemoteError, SentenceTooLong

#: Most line numbers in an error.
_NAMED = 8


def located(
    error: RemoteError | SentenceTooLong, lines: Sequence[int], name: str
) -> RemoteError | SentenceTooLong:
    """Return the error of a request, naming ``lines`` of the input instead of its sentences."""
    where = _where([lines[row] for row in error.rows], name)
    if isinstance(error, SentenceTooLong):
        text = (
            f"{where}: more tokens than the {error.max_seq_len} that are read, special tokens "
            'included: shorten, or allow to cut (truncate "right" or "left")'
        )
    else:
        what = f"{error.type_name}: {error.message}" if error.message else error.type_name
        text = f"{what} (one of the sentences in {where})" if error.rows else what
    error.args = (text,)
    return error


def _where(lines: Sequence[int], name: str) -> str:
    some = ", ".join(map(str, lines[:_NAMED])) + (", ..." if len(lines) > _NAMED else "")
    return f"{name}, line{'s' if len(lines) > 1 else ''} {some}"


def other_model(path: Path, had: str, has: str) -> ModelMismatch:
    """Return the error that a file would have rows of two models."""
    return ModelMismatch(
        f"{path} was begun with model {had[:12]}, and the workers have model {has[:12]}: start "
        "workers with the model, max_seq_len and pooling of before, or overwrite the file"
    )
