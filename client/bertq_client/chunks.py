"""Splitting a request into chunks, and putting the rows of the chunks back in order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertq.errors import ModelMismatch, WireError
from bertq.limits import CHUNK_CHARACTERS, CHUNK_ROWS
from bertq.wire import ChunkResult

#: Indices, into a request's sentences, of those that make up a chunk.
Indices = NDArray[np.intp]


def split(
    lengths: Sequence[int], rows: int = CHUNK_ROWS, characters: int = CHUNK_CHARACTERS
) -> list[Indices]:
    """Deal sentences into chunks, those of like length together.

    Args:
        lengths: characters of each sentence, at least one sentence.
        rows: the most sentences of a chunk.
        characters: the most characters of a chunk, unless one sentence alone has more.

    Returns:
        The chunks: every index from 0 to ``len(lengths) - 1`` once, in ascending order of length.
    """
    sizes = np.asarray(lengths)
    order = np.argsort(sizes, kind="stable")
    # Chunks of like size: 257 sentences make 128 and 129, not 256 and 1.
    even = np.array_split(order, -(-len(order) // rows))
    return [part for chunk in even for part in _cut(chunk, sizes, characters)]


def _cut(chunk: Indices, sizes: NDArray[Any], characters: int) -> list[Indices]:
    """Halve a chunk until each part is small enough, or a single sentence."""
    if len(chunk) == 1 or int(sizes[chunk].sum()) <= characters:
        return [chunk]
    middle = len(chunk) // 2
    return _cut(chunk[:middle], sizes, characters) + _cut(chunk[middle:], sizes, characters)


class Assembly:
    """The growing answer to one request.

    Attributes:
        plan: the chunks, as ``split`` dealt them.
        missing: numbers of the chunks that are not in yet.
    """

    def __init__(self, plan: list[Indices]) -> None:
        self.plan = plan
        self.missing = set(range(len(plan)))
        self._size = sum(map(len, plan))
        self._rows: NDArray[Any] | None = None
        self._fingerprint = ""

    def add(self, number: int, result: ChunkResult) -> bool:
        """Copy a chunk's rows to their places.

        Returns:
            False if the chunk was in already: a chunk may be delivered twice.

        Raises:
            WireError: there is no such chunk, or the rows have the wrong number or shape.
            ModelMismatch: they come from another model than those before.
        """
        if not 0 <= number < len(self.plan):
            raise WireError(f"there is no chunk {number}: the request has {len(self.plan)}")
        if number not in self.missing:
            return False
        indices = self.plan[number]
        if len(result.rows) != len(indices):
            raise WireError(
                f"chunk {number} has {len(result.rows)} rows for {len(indices)} sentences"
            )
        self._place(indices, result)
        self.missing.discard(number)
        return True

    def _place(self, indices: Indices, result: ChunkResult) -> None:
        rows = result.rows
        if self._rows is None:
            # Zeros cost nothing until they are written, and pad shorter sentences (NONE).
            self._rows = np.zeros((self._size, *rows.shape[1:]), rows.dtype.newbyteorder("="))
            self._fingerprint = result.fingerprint
        if result.fingerprint != self._fingerprint:
            raise ModelMismatch(
                f"rows of model {result.fingerprint[:12]} came after rows of model "
                f"{self._fingerprint[:12]}: workers with different models or settings share a queue"
            )
        if rows.ndim == 3 and rows.shape[1] > self._rows.shape[1]:
            # Token vectors, as many as the longest sentence of each chunk has.
            longer = np.zeros((self._size, *rows.shape[1:]), self._rows.dtype)
            longer[:, : self._rows.shape[1]] = self._rows
            self._rows = longer
        if rows.ndim != self._rows.ndim or rows.shape[-1] != self._rows.shape[-1]:
            raise WireError(f"rows of shape {rows.shape[1:]} came after {self._rows.shape[1:]}")
        if rows.ndim == 3:
            self._rows[indices, : rows.shape[1]] = rows
        else:
            self._rows[indices] = rows

    def rows(self) -> NDArray[Any]:
        """Return the answer, ``[n, *row_shape]``, in the order of the sentences.

        Raises:
            LookupError: chunks are missing.
        """
        if self._rows is None or self.missing:
            raise LookupError(f"{len(self.missing)} chunks are missing")
        return self._rows
