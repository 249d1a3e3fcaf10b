"""The maximum size of a batch, by the cost of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Indices of the rows of a batch.
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Budget:
    """The maximum size of one execution of the graph; a single row always fits.

    The cost of dense layers grows with the number of tokens, and the cost of attention with
    ``rows * longest^2``.
    """

    #: maximum rows
    rows: int
    #: maximum tokens of all rows together
    tokens: int
    #: maximum scores of one head: rows * longest^2
    scores: int

    def fits(self, rows: int, tokens: int, longest: int) -> bool:
        """Return whether a batch fits.

        Args:
            rows: number of rows.
            tokens: number of tokens of all rows together.
            longest: number of tokens of the longest row.
        """
        if rows <= 1:
            return True
        return rows <= self.rows and tokens <= self.tokens and rows * longest**2 <= self.scores

    def share(self, rows: int, tokens: int, longest: int) -> float:
        """Return the size of a batch as a share of the maximum, 0 to 1; arguments as ``fits``."""
        shares = rows / self.rows, tokens / self.tokens, rows * longest**2 / self.scores
        return min(1.0, max(shares))  # a single row may exceed a maximum

    def split(self, lengths: Sequence[int]) -> list[list[int]]:
        """Split rows into batches of similar length.

        Args:
            lengths: number of tokens of each row.

        Returns:
            The indices of the rows of each batch, the shortest rows first.
        """
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        batches, start, tokens = [], 0, 0
        for end, row in enumerate(order):
            length = lengths[row]
            if end > start and not self.fits(end - start + 1, tokens + length, length):
                batches.append(order[start:end])
                start, tokens = end, 0
            tokens += length
        if start < len(order):
            batches.append(order[start:])
        return batches
