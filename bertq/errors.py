"""The errors that a client can raise, as one tree; other packages add errors below its root.

::

    BertqError
    ├── BadInput
    │   ├── BadInputType       (also a TypeError)
    │   └── BadInputValue      (also a ValueError)
    │       └── SentenceTooLong
    ├── SettingsError          (also a ValueError)
    ├── Timeout                (also a TimeoutError)
    │   └── NoWorker
    ├── RemoteError
    ├── LostResult
    ├── UnknownJob             (also a LookupError)
    ├── ModelMismatch
    ├── OutputError
    ├── WireError
    │   └── VersionMismatch
    ├── RedisUnavailable       (also a ConnectionError)
    ├── RedisFull
    ├── QueueFull
    └── ClientClosed

``bertq_workers`` adds ``PortTaken``; ``bertq_cli`` adds ``ProcessFailed``, ``ModelUnavailable`` and
``ConversionFailed``. The model package knows no queues and has a separate tree:
``bertq_bert.ModelError``.

A cancelled request raises ``concurrent.futures.CancelledError``, as every future does.
``TruncationWarning`` is a UserWarning.
"""

from collections.abc import Sequence
from typing import Any

#: Maximum number of sentences that an error lists.
_MAX_LISTED_ROWS = 8


def _list_texts(rows: Sequence[int]) -> str:
    """Return the start of a message about texts, with the numbers of the first ones."""
    texts = ", ".join(f"texts[{row}]" for row in rows[:_MAX_LISTED_ROWS])
    if len(rows) == 1:
        return f"{texts} has"
    more = len(rows) - _MAX_LISTED_ROWS
    return f"{texts} and {more} more have" if more > 0 else f"{texts} have"


class BertqError(Exception):
    """Base of every error that bertq raises."""


class BadInput(BertqError):
    """``encode`` does not accept the sentences; nothing was sent."""


class BadInputType(BadInput, TypeError):
    """The sentences, or one of them, have the wrong type."""


class BadInputValue(BadInput, ValueError):
    """There are no sentences, one of them is blank, or an option has an invalid value."""


class SentenceTooLong(BadInputValue):
    """A sentence has too many tokens, and ``truncate="error"`` forbids cutting it.

    Attributes:
        rows: numbers of such sentences in the request; other chunks may have more.
        max_seq_len: maximum number of tokens, special tokens included.
    """

    def __init__(self, rows: Sequence[int], max_seq_len: int) -> None:
        super().__init__(
            f"{_list_texts(rows)} more tokens than the {max_seq_len} that the model reads, special "
            'tokens included: shorten the texts, or pass truncate="right" or "left"'
        )
        self.rows = tuple(rows)
        self.max_seq_len = max_seq_len

    def __reduce__(self) -> tuple[type["SentenceTooLong"], tuple[Any, ...]]:
        return type(self), (self.rows, self.max_seq_len)


class TruncationWarning(UserWarning):
    """Sentences of a request had more tokens than the model reads, and were cut."""


class SettingsError(BertqError, ValueError):
    """A setting, an option or a URL has an invalid value."""


class Timeout(BertqError, TimeoutError):
    """The vectors did not arrive within the timeout."""


class NoWorker(Timeout):
    """The vectors did not arrive within the timeout, and no worker serves the queue."""


class RemoteError(BertqError):
    """A chunk failed in the worker.

    Attributes:
        type_name: name of the worker's exception class.
        message: the worker's message.
        task_id: id of the chunk's task, as the worker's log shows it.
        rows: numbers of the request's sentences in this chunk; the other sentences did not fail.
    """

    def __init__(
        self, type_name: str, message: str, task_id: str = "", rows: Sequence[int] = ()
    ) -> None:
        text = f"{type_name}: {message}" if message else type_name
        if rows:
            more = ", ..." if len(rows) > _MAX_LISTED_ROWS else ""
            numbers = ", ".join(map(str, rows[:_MAX_LISTED_ROWS])) + more
            subject = f"one of the {len(rows)} sentences" if len(rows) > 1 else "sentence"
            text = f"{text} ({subject} {numbers} of the request)"
        super().__init__(text)
        self.type_name = type_name
        self.message = message
        self.task_id = task_id
        self.rows = tuple(rows)

    def __reduce__(self) -> tuple[type["RemoteError"], tuple[Any, ...]]:
        # The default would call the class with only the formatted message.
        return type(self), (self.type_name, self.message, self.task_id, self.rows)


class LostResult(BertqError):
    """A chunk was lost repeatedly, although it was sent again each time."""


class UnknownJob(BertqError, LookupError):
    """No durable job has this id: it has expired, was discarded or never existed."""


class ModelMismatch(BertqError):
    """Different models would answer the chunks of one request, or the rows of one file."""


class OutputError(BertqError):
    """A file of vectors cannot be written, or an existing one not replaced or continued."""


class WireError(BertqError):
    """A stored result is cut, damaged or of a kind that bertq does not accept."""


class VersionMismatch(WireError):
    """The client and a worker use different wire formats."""


class RedisUnavailable(BertqError, ConnectionError):
    """Redis cannot be reached, or refuses the client."""


class RedisFull(BertqError):
    """Redis has reached its memory limit, or cannot write to its disk, and takes no more work."""


class QueueFull(BertqError):
    """The queue has reached its limit of waiting chunks; nothing was sent."""


class ClientClosed(BertqError):
    """The client was closed before or during the request."""
