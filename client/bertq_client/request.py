"""One request of a caller."""

import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertq.protocol import queues
from bertq.protocol.encoding import Encoding
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq_client.futures import EncodeFuture
from bertq_client.inbox import results
from bertq_client.inputs import Text

if TYPE_CHECKING:
    from bertq_client.job import Job


@dataclass(frozen=True)
class RequestAnswer:
    """The answer to a request.

    Attributes:
        rows: ``[n, *row_shape]``, in the order of the sentences.
        tokens: the tokens of each sentence, if the request asks for them; see ``ChunkResult``.
        cut_rows: numbers of the truncated sentences.
        max_seq_len: maximum number of tokens of a sentence, if any was truncated.
        fingerprint: fingerprint of the model that encoded the rows.
        lengths: number of tokens read of each sentence, if the request asks for it.
    """

    rows: AnyRows
    tokens: list[list[Any]] | None
    cut_rows: list[int]
    max_seq_len: int
    fingerprint: str
    lengths: NDArray[np.int64] | None = None


@dataclass(eq=False)
class Request:
    """One call of ``encode`` or ``encode_async``.

    Attributes:
        number: identifies it among the client's requests.
        texts: the sentences.
        queue: the queue of its chunks.
        encoding: the encoding options of its sentences.
        future: the future that the caller has.
        timeout: seconds that the caller allows, or None.
        as_list: whether the caller wants nested lists.
        check_length: whether to warn the caller about truncated sentences.
        job: the job that carries it, from sending until it is answered.
        may_share_job: whether it may share a job with other requests.
        num_restarts: how often it was sent again because its model was replaced.
        is_counted: whether the counters include it.
        traceparent: context of its span (``bertq.tracing``), or None.
        on_answer: called with the answer before the caller gets it.
        submitted_at: monotonic time at which it was made.
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
    may_share_job: bool = True
    num_restarts: int = 0
    is_counted: bool = False
    traceparent: str | None = None
    on_answer: Callable[[RequestAnswer], object] | None = None
    submitted_at: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which it times out; None without a timeout."""
        return None if self.timeout is None else self.submitted_at + self.timeout

    @property
    def is_small(self) -> bool:
        """Whether it is small enough that it never waits for large requests."""
        return len(self.texts) <= queues.PRIORITY_BATCH_SIZE

    def succeed(self, answer: RequestAnswer) -> None:
        """Complete the future, unless it has been cancelled."""
        if self.future.done():
            return
        if self.on_answer is not None:
            self.on_answer(answer)
        if answer.cut_rows and self.check_length:
            self.future.set_warning(
                results.truncation_warning(
                    len(answer.cut_rows), len(self.texts), answer.max_seq_len
                )
            )
        self.future.token_counts = answer.lengths
        self.future.tokens_read = None if answer.lengths is None else int(answer.lengths.sum())
        self.future.fingerprint = answer.fingerprint
        self.future.cut_rows = tuple(sorted(answer.cut_rows))
        rows = to_lists(answer.rows) if self.as_list else answer.rows
        self._complete(self.future.set_result, self._value(rows, answer.tokens or []))

    def _value(self, rows: Any, tokens: list[list[Any]]) -> Any:
        """Return the result of the future."""
        if self.encoding.output == "tokens":
            return tokens
        if self.encoding.output == "text":
            return [text for (text,) in tokens]
        return (rows, tokens) if self.encoding.show_tokens else rows

    def fail(self, error: BaseException) -> None:
        """Complete the future with an error, unless it has been cancelled."""
        if not self.future.done():
            # The traceback's frames would keep the request alive as long as the error.
            self._complete(self.future.set_exception, error.with_traceback(None))

    def _complete(self, setter: Any, value: Any) -> None:
        with suppress(InvalidStateError):  # cancelled after the check
            setter(value)


def to_lists(rows: AnyRows) -> list[Any]:
    """Return rows as nested lists, or sparse rows as dicts of token id and weight."""
    if isinstance(rows, SparseRows):
        return list(rows)
    # Row by row: one call for all rows would block every other thread.
    return [row.tolist() for row in rows]
