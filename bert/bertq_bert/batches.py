"""Bounds on batches: by the cost of their rows, not by their number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Indices of the rows of a batch.
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Budget:
    """Bounds on one execution of the graph; a single row always fits.

    The cost of dense layers grows with the tokens, that of attention with ``rows * longest^2``.
    """

    #: most rows
    rows: int
    #: most tokens of all rows together
    tokens: int
    #: most scores of one head: rows * longest^2
    scores: int

    def fits(self, rows: int, tokens: int, longest: int) -> bool:
        """Whether a batch of ``rows``, with ``tokens`` in all and ``longest`` in one, may run."""
        if rows <= 1:
            return True
        return rows <= self.rows and tokens <= self.tokens and rows * longest**2 <= self.scores

    def share(self, rows: int, tokens: int, longest: int) -> float:
        """Return the largest share of a bound that a batch uses: 0 to 1."""
        shares = rows / self.rows, tokens / self.tokens, rows * longest**2 / self.scores
        return min(1.0, max(shares))  # a single row may be more than that

    def split(self, lengths: Sequence[int]) -> list[list[int]]:
        """Deal rows, given the tokens of each, into batches of like length, the shortest first."""
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
