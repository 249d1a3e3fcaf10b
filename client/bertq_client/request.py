"""What a caller asked for, and waits for."""

import time
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bertq.protocol import queues
from bertq.protocol.encoding import Encoding
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq_client.futures import EncodeFuture
from bertq_client.inbox import results
from bertq_client.inputs import Text

if TYPE_CHECKING:
    from bertq_client.job import Job


@dataclass(frozen=True)
class Answer:
    """What came for a request.

    Attributes:
        rows: ``[n, *row_shape]``, in the order of its sentences.
        tokens: the tokens of each sentence, where the request asks for them.
        cut: how many sentences had more tokens than are read.
        max_seq_len: how many are read, where sentences were cut.
        fingerprint: of the model that the rows come from.
        tokens_read: how many were read of all sentences, where the request asks for it.
    """

    rows: AnyRows
    tokens: list[list[str]] | None
    cut: int
    max_seq_len: int
    fingerprint: str
    tokens_read: int | None = None


@dataclass(eq=False)
class Request:
    """One call of ``encode`` or ``encode_async``.

    Attributes:
        number: tells it from the client's other requests.
        texts: the sentences.
        queue: where they go.
        encoding: how they are encoded.
        future: what the caller holds.
        timeout: seconds that the caller allowed, or None.
        as_list: whether the caller wants nested lists.
        check_length: whether the caller wants to hear of sentences that were cut.
        job: what it is being sent with, from then on until it is answered.
        alone: whether it may share a job with no other request.
        counted: whether the statistics know of it.
        submitted: when, on the monotonic clock.
    """

    number: int
    texts: tuple[Text, ...]
    queue: str
    encoding: Encoding
    future: EncodeFuture
    timeout: float | None
    as_list: bool
    check_length: bool
    job: "Job | None" = None
    alone: bool = False
    counted: bool = False
    submitted: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which it is given up."""
        return None if self.timeout is None else self.submitted + self.timeout

    @property
    def small(self) -> bool:
        """Whether it is one of those that never wait for large ones."""
        return len(self.texts) <= queues.PRIORITY_BATCH_SIZE

    def succeed(self, answer: Answer) -> None:
        """Complete the future, unless it was cancelled meanwhile."""
        if self.future.done():
            return
        if answer.cut and self.check_length:
            self.future.note(results.of_cut(answer.cut, len(self.texts), answer.max_seq_len))
        self.future.tokens_read = answer.tokens_read
        self.future.fingerprint = answer.fingerprint
        self.future.cut = answer.cut
        rows = listed(answer.rows) if self.as_list else answer.rows
        value = (rows, answer.tokens or []) if self.encoding.show_tokens else rows
        self._complete(self.future.set_result, value)

    def fail(self, error: BaseException) -> None:
        """Complete the future with an error, unless it was cancelled meanwhile."""
        if not self.future.done():
            # The frames of this thread would keep the request for as long as there is the error.
            self._complete(self.future.set_exception, error.with_traceback(None))

    def _complete(self, setter: Any, value: Any) -> None:
        with suppress(InvalidStateError):  # cancelled between the look and the leap
            setter(value)


def listed(rows: AnyRows) -> list[Any]:
    """Return rows as nested lists; those of a sparse model as dicts of token id and weight."""
    if isinstance(rows, SparseRows):
        return list(rows)
    # Row by row: one call for all of them would keep every other thread waiting.
    return [row.tolist() for row in rows]
