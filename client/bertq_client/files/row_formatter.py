"""Formats the rows of sentences and blank lines, in blocks of bounded size."""

from collections.abc import Iterator, Sequence

import numpy as np

from bertq.protocol.sparse import AnyRows, SparseRows
from bertq_client.files.formats import RowFormat, create_format, pad_rows
from bertq_client.files.run_options import RunOptions

#: Most bytes of the rows of a block.
MAX_BLOCK_BYTES = 8 * 1024 * 1024

#: Number of rows, and their bytes in the file's format.
Block = tuple[int, bytes]


class RowFormatter:
    """The formatter of one output's rows.

    Args:
        options: options of the run.
        row_shape: shape of a row.
        is_sparse: whether rows are ``SparseRows``.

    Raises:
        OutputError: the file's format cannot store such rows.

    Attributes:
        row_format: the format of the file.
    """

    def __init__(self, options: RunOptions, row_shape: tuple[int, ...], *, is_sparse: bool) -> None:
        dtype = options.encoding.dtype
        self.row_format: RowFormat = create_format(
            options.output, dtype, row_shape, is_sparse=is_sparse
        )
        self._row_shape = row_shape
        self._zero = np.zeros((1, *row_shape), dtype)
        self._is_sparse = is_sparse
        self._block_rows = max(1, MAX_BLOCK_BYTES // max(1, self._zero.nbytes))
        self._has_blank_rows = options.blank == "zero"

    def format(self, vectors: AnyRows, lines: Sequence[int], after: int) -> Iterator[Block]:
        """Return the rows of sentences, and of the blank lines between them.

        Args:
            vectors: a row for each sentence.
            lines: line numbers of the sentences.
            after: last line that earlier rows cover.
        """
        first = 0
        before = [after, *lines[:-1]]
        for index in np.flatnonzero(np.subtract(lines, before) > 1).tolist():
            yield from self._format_sentences(vectors[first:index], lines[first:index])
            yield from self.format_blanks(before[index], lines[index] - 1)
            first = index
        yield from self._format_sentences(vectors[first:], lines[first:])

    def format_blanks(self, after: int, last: int) -> Iterator[Block]:
        """Return the rows of blank lines, if they have any, after line ``after`` up to ``last``."""
        if not self._has_blank_rows:
            return
        for first in range(after + 1, last + 1, self._block_rows):
            lines = range(first, min(first + self._block_rows, last + 1))
            zeros = np.broadcast_to(self._zero, (len(lines), *self._row_shape))
            rows = SparseRows.from_dense(zeros) if self._is_sparse else zeros
            yield len(lines), self.row_format.encode(rows, lines)

    def _format_sentences(self, vectors: AnyRows, lines: Sequence[int]) -> Iterator[Block]:
        for first in range(0, len(lines), self._block_rows):
            block = slice(first, first + self._block_rows)
            rows = vectors[block]
            if not isinstance(rows, SparseRows):
                rows = pad_rows(rows, self._row_shape)
            yield len(rows), self.row_format.encode(rows, lines[block])
