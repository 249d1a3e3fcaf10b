"""Where the tokens of a batch stand, computed on the host.

oneDNN prepares code for each shape of its inputs and keeps it, and XLA compiles each shape: so the
numbers of rows, of tokens and of slots are rounded up, and the rest is padding.
"""

from collections.abc import Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int32]

#: T is a multiple of this. A CPU's softmax adds up 16 numbers at a time and a shorter rest in
#: another order: without rests, its sums do not depend on how far a row is padded.
LANES = 16


class TokenPlaces(NamedTuple):
    """Where each token stands in the flat list of all tokens and in the padded block."""

    lengths: Integers  # [B]     tokens of each row; 0 for a row that is padding
    row: Integers  # [N]     row of each token; -1 for a token that is padding
    position: Integers  # [N]     position of each token in its row; 0 for padding
    token_index: Integers  # [B, T]  flat index of each slot's token; 0 for padding

    @classmethod
    def of(cls, lengths: Integers, rows: int, tokens: int, slots: int) -> "TokenPlaces":
        """Compute the places of rows of these lengths, with padding at the end.

        Args:
            lengths: tokens of each row, at least 1.
            rows: B, at least the number of lengths.
            tokens: N, at least the sum of the lengths.
            slots: T, at least the greatest length.
        """
        lengths = pad(lengths, rows)
        is_token = np.arange(slots) < lengths[:, None]
        rows_of_tokens, positions = np.nonzero(is_token)
        count = len(positions)
        row = np.full(tokens, -1, np.int32)
        position = np.zeros(tokens, np.int32)
        token_index = np.zeros((rows, slots), np.int32)
        row[:count] = rows_of_tokens
        position[:count] = positions
        token_index[is_token] = np.arange(count)
        return cls(lengths, row, position, token_index)


def flatten(ids: Sequence[Sequence[int]], size: int) -> Integers:
    """Return the ids of all rows end to end with zeros behind them: [size]."""
    return np.fromiter(chain(chain.from_iterable(ids), repeat(0)), np.int32, size)


def widen(marks: bytes, size: int) -> Integers:
    """Return the marks of tokens (``sequences.marks``) with zeros behind them: [size]."""
    return np.frombuffer(marks.ljust(size, b"\0"), np.uint8).astype(np.int32)


def pad(array: Integers, size: int) -> Integers:
    """Return ``array`` with zeros behind it: [size]."""
    if len(array) == size:
        return array
    padded = np.zeros(size, np.int32)
    padded[: len(array)] = array
    return padded


def round_up(number: int) -> int:
    """Return the least of 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ... that is not less."""
    unit = 1 << max(0, (number - 1).bit_length() - 3)
    return -(-number // unit) * unit


def padded_length(longest: int) -> int:
    """Return the number of slots that rows of up to ``longest`` tokens are padded to."""
    return -(-longest // LANES) * LANES
