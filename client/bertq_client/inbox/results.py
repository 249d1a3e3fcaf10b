"""Decodes a stored result: rows, or the error of a worker."""

from typing import Any

from bertq.errors import ModelMismatch, RemoteError, SentenceTooLong, VersionMismatch, WireError
from bertq.protocol import wire
from bertq.protocol.wire import ChunkResult
from bertq_client.inbox.assembly import places_of
from bertq_client.outbox.deduplication import PlannedChunk

#: Worker errors that concern a request's options.
_OPTION_ERRORS = ("UnknownPrompt", "UnsuitedRows")


def decode(payload: bytes, task_id: str) -> ChunkResult:
    """Return the rows of a stored result.

    Raises:
        RemoteError: the chunk failed in the worker.
        SentenceTooLong: sentences are too long; they are named by their numbers in the chunk.
        ModelMismatch: the worker has another model than the one that the job is pinned to.
        VersionMismatch: the worker has another version.
        WireError: the payload is not a valid result.
    """
    meta = wire.loads(payload)
    if not isinstance(meta, dict):
        raise WireError(f"the result of chunk {task_id} is a {type(meta).__name__}")
    result, status = meta.get("result"), _text(meta.get("status"))
    if status == "SUCCESS":
        return ChunkResult.from_wire(result)
    if not isinstance(result, dict):
        raise WireError(f"chunk {task_id} has the state {status[:40]!r}, no rows")
    message = result.get("exc_message")
    first = _text(message[0] if isinstance(message, list) and message else message)
    name = _text(result.get("exc_type"))
    for known in (ModelMismatch, VersionMismatch):
        if name == known.__name__:
            raise known(first or known.__doc__)
    if name == SentenceTooLong.__name__:
        rows, length = result.get("rows"), result.get("max_seq_len")
        if isinstance(rows, list) and all(type(row) is int for row in rows) and type(length) is int:
            raise SentenceTooLong(rows, length)
    raise RemoteError(name or "an error without a name", first, task_id)


def _text(value: Any) -> str:
    # The value may be an array, which has no truth value and a repr of any length.
    return value if isinstance(value, str) else ""


def error_of_request(error: RemoteError | SentenceTooLong, chunk: PlannedChunk) -> Exception:
    """Return the error of a chunk, with the numbers of its sentences in the request."""
    if isinstance(error, SentenceTooLong):
        return SentenceTooLong(places_of(chunk, error.rows), error.max_seq_len)
    # If the model refuses an option, no sentence is at fault.
    is_option_error = error.type_name in _OPTION_ERRORS
    rows = [] if is_option_error else sorted(chunk.places.tolist())
    return RemoteError(error.type_name, error.message, error.task_id, rows)


def truncation_warning(cut: int, total: int, max_seq_len: int) -> str:
    """Return the warning about truncated sentences of a request."""
    return (
        f"cut, {cut} of {total} sentences: they have more tokens than the {max_seq_len} that "
        "are read, special tokens included (max_seq_len of the workers; "
        "BertClient(check_length=False) hides this warning)"
    )
