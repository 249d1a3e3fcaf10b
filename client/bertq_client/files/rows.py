"""The rows of sentences and blank lines, as pieces of bytes of bounded size."""

from collections.abc import Iterator, Sequence

import numpy as np

from bertq.protocol.sparse import AnyRows, SparseRows
from bertq_client.files.formats import Form, form_of, padded
from bertq_client.files.run_options import RunOptions

#: Most bytes of the rows of a piece.
_PIECE_BYTES = 8 * 1024 * 1024

#: Number of rows, and their bytes in the file's format.
Piece = tuple[int, bytes]


class RowWriter:
    """The formatter of one output's rows.

    Args:
        order: options of the run.
        row_shape: shape of a row.
        is_sparse: whether rows are ``SparseRows``.

    Raises:
        OutputError: the file's format cannot store such rows.

    Attributes:
        form: the format of the file.
    """

    def __init__(self, order: RunOptions, row_shape: tuple[int, ...], *, is_sparse: bool) -> None:
        dtype = order.encoding.dtype
        self.form: Form = form_of(order.output, dtype, row_shape, is_sparse=is_sparse)
        self._row_shape = row_shape
        self._zero = np.zeros((1, *row_shape), dtype)
        self._is_sparse = is_sparse
        self._at_once = max(1, _PIECE_BYTES // max(1, self._zero.nbytes))
        self._with_blanks = order.blank == "zero"

    def pieces(self, vectors: AnyRows, lines: Sequence[int], after: int) -> Iterator[Piece]:
        """Return the rows of sentences, and of the blank lines between them.

        Args:
            vectors: a row for each sentence.
            lines: line numbers of the sentences.
            after: last line that earlier rows cover.
        """
        first = 0
        before = [after, *lines[:-1]]
        for index in np.flatnonzero(np.subtract(lines, before) > 1).tolist():
            yield from self._encoded(vectors[first:index], lines[first:index])
            yield from self.blanks(before[index], lines[index] - 1)
            first = index
        yield from self._encoded(vectors[first:], lines[first:])

    def blanks(self, after: int, last: int) -> Iterator[Piece]:
        """Return the rows of blank lines, if they have any, after line ``after`` up to ``last``."""
        if not self._with_blanks:
            return
        for first in range(after + 1, last + 1, self._at_once):
            lines = range(first, min(first + self._at_once, last + 1))
            zeros = np.broadcast_to(self._zero, (len(lines), *self._row_shape))
            rows = SparseRows.from_dense(zeros) if self._is_sparse else zeros
            yield len(lines), self.form.encode(rows, lines)

    def _encoded(self, vectors: AnyRows, lines: Sequence[int]) -> Iterator[Piece]:
        for first in range(0, len(lines), self._at_once):
            some = slice(first, first + self._at_once)
            rows = vectors[some]
            if not isinstance(rows, SparseRows):
                rows = padded(rows, self._row_shape)
            yield len(rows), self.form.encode(rows, lines[some])
