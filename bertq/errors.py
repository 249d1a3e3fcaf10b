"""What can go wrong for a client, as one tree; the programs have some of their own below its root.

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

``bertq_workers`` adds ``PortTaken``; ``bertq_cli`` ``ProcessFailed``, ``ModelUnavailable`` and
``ConversionFailed``. The model, which knows nothing of a queue, has a tree of its own:
``bertq_bert.ModelError``.

A request that was cancelled raises ``concurrent.futures.CancelledError``, as every future does.
``TruncationWarning`` is a UserWarning.
"""

from collections.abc import Sequence
from typing import Any

#: Sentences of a failed chunk that its error names one by one.
_NAMED = 8


def _named(what: str, rows: Sequence[int]) -> str:
    """Return the start of a sentence about elements of a list: the first of them by number."""
    some = ", ".join(f"{what}[{row}]" for row in rows[:_NAMED])
    if len(rows) == 1:
        return f"{some} has"
    more = len(rows) - _NAMED
    return f"{some} and {more} more have" if more > 0 else f"{some} have"


class BertqError(Exception):
    """Base of every error that bertq raises."""


class BadInput(BertqError):
    """The sentences are not what ``encode`` takes; nothing was sent."""


class BadInputType(BadInput, TypeError):
    """The sentences, or one of them, have the wrong type."""


class BadInputValue(BadInput, ValueError):
    """There are no sentences, or one of them is blank."""


class SentenceTooLong(BadInputValue):
    """Sentences have more tokens than are read, and ``truncate="error"`` forbids to cut them.

    Attributes:
        rows: numbers of such sentences in the request; there may be more, in other chunks.
        max_seq_len: how many tokens are read, special tokens included.
    """

    def __init__(self, rows: Sequence[int], max_seq_len: int) -> None:
        super().__init__(
            f"{_named('texts', rows)} more tokens than the {max_seq_len} that are read, special "
            'tokens included: shorten, or allow to cut (truncate="right" or "left")'
        )
        self.rows = tuple(rows)
        self.max_seq_len = max_seq_len

    def __reduce__(self) -> tuple[type["SentenceTooLong"], tuple[Any, ...]]:
        return type(self), (self.rows, self.max_seq_len)


class TruncationWarning(UserWarning):
    """Sentences of a request had more tokens than are read, and were cut."""


class SettingsError(BertqError, ValueError):
    """A setting, an option or a URL has a value that cannot be used."""


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
        rows: numbers of the sentences of the request that are in the chunk; the others did not
            fail.
    """

    def __init__(
        self, type_name: str, message: str, task_id: str = "", rows: Sequence[int] = ()
    ) -> None:
        what = f"{type_name}: {message}" if message else type_name
        if rows:
            which = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
            some = f"one of the {len(rows)} sentences" if len(rows) > 1 else "sentence"
            what = f"{what} ({some} {which} of the request)"
        super().__init__(what)
        self.type_name = type_name
        self.message = message
        self.task_id = task_id
        self.rows = tuple(rows)

    def __reduce__(self) -> tuple[type["RemoteError"], tuple[Any, ...]]:
        # The default would call the class with the one formatted message.
        return type(self), (self.type_name, self.message, self.task_id, self.rows)


class LostResult(BertqError):
    """A chunk was lost again and again, though it was sent again each time."""


class UnknownJob(BertqError, LookupError):
    """No job of this id is kept: it has expired or was discarded, or there never was one."""


class ModelMismatch(BertqError):
    """The chunks of one request, or the rows of one file, would be those of different models."""


class OutputError(BertqError):
    """A file of vectors cannot be written, or what is there may not be replaced or gone on with."""


class WireError(BertqError):
    """A stored result is cut, damaged or not of a kind that bertq accepts."""


class VersionMismatch(WireError):
    """The client and a worker do not speak the same wire format."""


class RedisUnavailable(BertqError, ConnectionError):
    """Redis cannot be reached, or refuses the client."""


class RedisFull(BertqError):
    """Redis has reached its memory limit and takes no more work."""


class QueueFull(BertqError):
    """As many chunks wait on the queue as are allowed to; nothing was sent."""


class ClientClosed(BertqError):
    """The client was closed before, or while, the request was under way."""
