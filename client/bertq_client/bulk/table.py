"""What is written for sentences and for blank lines, in pieces of a bounded size."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertq_client.bulk.order import Order
from bertq_client.bulk.rows import FORMS, Form, padded

#: Bytes of the rows of a piece.
_PIECE_BYTES = 8 * 1024 * 1024

#: Rows, and their bytes as the file has them.
Piece = tuple[int, bytes]


class Table:
    """The rows of one output.

    Args:
        order: what is asked for.
        row_shape: of a row.

    Attributes:
        form: how rows become bytes.
    """

    def __init__(self, order: Order, row_shape: tuple[int, ...]) -> None:
        dtype = order.options["dtype"]
        self.form: Form = FORMS[order.output.suffix](dtype, row_shape)
        self._zero = np.zeros((1, *row_shape), dtype)
        self._at_once = max(1, _PIECE_BYTES // max(1, self._zero.nbytes))
        self._with_blanks = order.blank == "zero"

    def pieces(self, vectors: NDArray[Any], lines: Sequence[int], after: int) -> Iterator[Piece]:
        """Return the rows of sentences, and of the blank lines between them.

        Args:
            vectors: a row for each sentence.
            lines: where the sentences stand.
            after: the line up to which rows are written.
        """
        first = 0
        before = [after, *lines[:-1]]
        for index in np.flatnonzero(np.subtract(lines, before) > 1).tolist():
            yield from self._encoded(vectors[first:index], lines[first:index])
            yield from self.blanks(before[index], lines[index] - 1)
            first = index
        yield from self._encoded(vectors[first:], lines[first:])

    def blanks(self, after: int, last: int) -> Iterator[Piece]:
        """Return the rows of blank lines, if they have any: of those up to line ``last``."""
        if not self._with_blanks:
            return
        for first in range(after + 1, last + 1, self._at_once):
            lines = range(first, min(first + self._at_once, last + 1))
            zeros = np.broadcast_to(self._zero, (len(lines), *self._zero.shape[1:]))
            yield len(lines), self.form.encode(zeros, lines)

    def _encoded(self, vectors: NDArray[Any], lines: Sequence[int]) -> Iterator[Piece]:
        for first in range(0, len(lines), self._at_once):
            some = slice(first, first + self._at_once)
            rows = padded(vectors[some], self._zero.shape[1:])
            yield len(rows), self.form.encode(rows, lines[some])
