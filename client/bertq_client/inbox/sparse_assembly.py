"""The sparse rows of a job's chunks, put in the order of its sentences."""

import numpy as np
from numpy.typing import NDArray

from bertq.errors import WireError
from bertq.protocol.sparse import SparseRows


class Compressed:
    """The growing answer to one job of a sparse model.

    Attributes:
        parts: the rows of the chunks that are in.
    """

    def __init__(self, size: int) -> None:
        self.parts: list[SparseRows] = []
        self._count = 0
        #: for each row of the answer, which of the rows of all parts it is; -1 while it is missing
        self._sources = np.full(size, -1, np.intp)

    def place(
        self, places: NDArray[np.intp], sources: NDArray[np.intp] | None, rows: SparseRows
    ) -> None:
        """Take in a chunk's rows.

        Args:
            places: the rows of the answer that they fill.
            sources: for each of the places, which row goes there; None where they are the same.
            rows: of the chunk.

        Raises:
            WireError: they have another vocabulary than those before.
        """
        if self.parts and rows.shape[1] != self.parts[0].shape[1]:
            raise WireError(f"rows of {rows.shape[1]} came after {self.parts[0].shape[1]}")
        numbers = np.arange(len(rows)) if sources is None else sources
        self._sources[places] = self._count + numbers
        self._count += len(rows)
        self.parts.append(rows)

    def rows(self) -> SparseRows:
        """Return the answer so far, with rows of zeros for what is missing."""
        columns = self.parts[0].shape[1]
        nothing = SparseRows.from_dense(np.zeros((1, columns), self.parts[0].dtype))
        # The last row, which -1 stands for.
        return SparseRows.concatenate([*self.parts, nothing])[self._sources]
