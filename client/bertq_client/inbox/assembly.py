"""Puts the rows of chunks back in the order of the sentences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertq.errors import ModelMismatch, WireError
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq.protocol.wire import ChunkResult
from bertq_client.inbox.sparse_assembly import SparseAssembly
from bertq_client.outbox.deduplication import PlannedChunk

#: Rows of duplicate sentences that are copied at a time: each such copy needs a temporary copy.
_COPIED_ROWS = 1024


def places_of(chunk: PlannedChunk, rows: Sequence[int]) -> list[int]:
    """Return the places in the answer for some rows of a chunk, in ascending order."""
    if chunk.sources is None:
        return sorted(chunk.places[list(rows)].tolist())
    return sorted(chunk.places[np.isin(chunk.sources, rows)].tolist())


class Assembly:
    """The growing answer to one job.

    Attributes:
        plan: the chunks of the job.
        missing: numbers of the chunks that have not arrived.
        done: number of rows that have arrived.
        tokens: the tokens of each sentence, if the workers send them.
        cut: indices of the truncated sentences.
        max_seq_len: maximum number of tokens of a sentence, if any was truncated.
        lengths: number of tokens read of each sentence, if the workers send it.
        fingerprint: fingerprint of the model that encoded the rows; empty before the first chunk.
    """

    def __init__(self, plan: list[PlannedChunk]) -> None:
        self.plan = plan
        self.missing = set(range(len(plan)))
        self.done = 0
        self.tokens: list[list[Any]] | None = None
        self.cut: list[int] = []
        self.max_seq_len = 0
        self.lengths: NDArray[np.int64] | None = None
        self._size = sum(len(chunk.places) for chunk in plan)
        self.fingerprint = ""
        self._rows: NDArray[Any] | None = None
        self._sparse: SparseAssembly | None = None

    def add(self, number: int, result: ChunkResult) -> bool:
        """Copy a chunk's rows to their places.

        Safe to call on several threads: one of them copies the rows.

        Returns:
            False if the chunk has arrived before: a chunk may be delivered twice.

        Raises:
            WireError: there is no such chunk, or its rows have the wrong number or shape.
            ModelMismatch: the rows come from another model than earlier ones.
        """
        if not 0 <= number < len(self.plan):
            raise WireError(f"there is no chunk {number}: the job has {len(self.plan)}")
        chunk = self.plan[number]
        if len(result.rows) != len(chunk.sentences):
            raise WireError(
                f"chunk {number} has {len(result.rows)} rows for {len(chunk.sentences)} sentences"
            )
        try:
            self.missing.remove(number)
        except KeyError:
            return False
        try:
            self._place_all(chunk, result)
        except BaseException:
            self.missing.add(number)
            raise
        self.done += len(chunk.places)
        return True

    def _place_all(self, chunk: PlannedChunk, result: ChunkResult) -> None:
        self._place(chunk, result)
        if result.tokens is not None:
            self._place_tokens(chunk, result.tokens)
        if result.lengths is not None:
            self._place_lengths(chunk, result.lengths)
        if result.cut:
            self.cut += places_of(chunk, result.cut)
            self.max_seq_len = result.max_seq_len

    def _place_tokens(self, chunk: PlannedChunk, tokens: list[list[Any]]) -> None:
        if self.tokens is None:
            self.tokens = [[] for _ in range(self._size)]
        sources = range(len(chunk.places)) if chunk.sources is None else chunk.sources.tolist()
        for place, source in zip(chunk.places.tolist(), sources, strict=True):
            self.tokens[place] = tokens[source].copy()

    def _place_lengths(self, chunk: PlannedChunk, lengths: Sequence[int]) -> None:
        if self.lengths is None:
            self.lengths = np.zeros(self._size, np.int64)
        counted = np.array(lengths)
        self.lengths[chunk.places] = counted if chunk.sources is None else counted[chunk.sources]

    def _place(self, chunk: PlannedChunk, result: ChunkResult) -> None:
        self.fingerprint = self.fingerprint or result.fingerprint
        if result.fingerprint != self.fingerprint:
            raise ModelMismatch(
                f"rows of model {result.fingerprint[:12]} came after rows of model "
                f"{self.fingerprint[:12]}: workers with different models or settings share a queue"
            )
        rows = result.rows
        other_kind = self._rows if isinstance(rows, SparseRows) else self._sparse
        if other_kind is not None:
            raise WireError("the rows of one request are partly sparse and partly not")
        if not isinstance(rows, SparseRows):
            self._place_dense(chunk, rows)
            return
        self._sparse = self._sparse or SparseAssembly(self._size)
        self._sparse.place(chunk.places, chunk.sources, rows)

    def _place_dense(self, chunk: PlannedChunk, rows: NDArray[Any]) -> None:
        if self._size == 1:
            self._rows = rows.astype(rows.dtype.newbyteorder("="))  # a copy
            return
        if self._rows is None:
            # Zeros use no memory until they are written. They also pad shorter sentences (NONE).
            self._rows = np.zeros((self._size, *rows.shape[1:]), rows.dtype.newbyteorder("="))
        if rows.ndim == 3 and rows.shape[1] > self._rows.shape[1]:
            # Each chunk has as many token vectors as its longest sentence.
            longer = np.zeros((self._size, *rows.shape[1:]), self._rows.dtype)
            longer[:, : self._rows.shape[1]] = self._rows
            self._rows = longer
        if rows.ndim != self._rows.ndim or rows.shape[-1] != self._rows.shape[-1]:
            raise WireError(f"rows of shape {rows.shape[1:]} came after {self._rows.shape[1:]}")
        # Shorter rows are followed by zeros.
        target = self._rows[:, : rows.shape[1]] if rows.ndim == 3 else self._rows
        if chunk.sources is None:
            target[chunk.places] = rows
            return
        for first in range(0, len(chunk.places), _COPIED_ROWS):
            part = slice(first, first + _COPIED_ROWS)
            target[chunk.places[part]] = rows[chunk.sources[part]]

    @property
    def has_token_rows(self) -> bool:
        """Whether a row has token vectors (NONE), as many as the longest sentence has tokens."""
        return self._rows is not None and self._rows.ndim == 3

    @property
    def rows_so_far(self) -> AnyRows | None:
        """The answer, with zeros for missing rows; None before the first chunk."""
        return self._rows if self._sparse is None else self._sparse.rows()

    def rows(self) -> AnyRows:
        """Return the answer, ``[n, *row_shape]``, in the order of the sentences.

        Raises:
            LookupError: chunks are missing.
        """
        found = self.rows_so_far
        if found is None or self.missing:
            raise LookupError(f"{len(self.missing)} chunks are missing")
        return found
