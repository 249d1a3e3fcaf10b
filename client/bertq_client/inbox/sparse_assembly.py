"""Puts the sparse rows of a job's chunks into the order of its sentences."""

import numpy as np
from numpy.typing import NDArray

from bertq.errors import WireError
from bertq.protocol.sparse import SparseRows


class SparseAssembly:
    """The growing answer to one job of a sparse model.

    Attributes:
        parts: the rows of the chunks that have arrived.
    """

    def __init__(self, size: int) -> None:
        self.parts: list[SparseRows] = []
        self._count = 0
        #: for each row of the answer, its index among the rows of all parts; -1 while it is missing
        self._sources = np.full(size, -1, np.intp)

    def place(
        self, places: NDArray[np.intp], sources: NDArray[np.intp] | None, rows: SparseRows
    ) -> None:
        """Add a chunk's rows.

        Args:
            places: the rows of the answer that they fill.
            sources: for each place, the index of its row; None if they match one to one.
            rows: rows of the chunk.

        Raises:
            WireError: the rows have another vocabulary than earlier ones.
        """
        if self.parts and rows.shape[1] != self.parts[0].shape[1]:
            raise WireError(f"rows of {rows.shape[1]} came after {self.parts[0].shape[1]}")
        numbers = np.arange(len(rows)) if sources is None else sources
        self._sources[places] = self._count + numbers
        self._count += len(rows)
        self.parts.append(rows)

    def rows(self) -> SparseRows:
        """Return the answer so far, with zeros for missing rows."""
        columns = self.parts[0].shape[1]
        zeros = SparseRows.from_dense(np.zeros((1, columns), self.parts[0].dtype))
        # The last row, which index -1 selects.
        return SparseRows.concatenate([*self.parts, zeros])[self._sources]
