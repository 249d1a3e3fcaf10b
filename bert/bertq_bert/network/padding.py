"""The places of the tokens of a batch, computed on the host.

oneDNN compiles and stores code for each shape of its inputs, and XLA compiles each shape. So the
numbers of rows, tokens and slots of a batch are rounded up, by padding. A slot is a column of a row
in the padded block of attention.
"""

from collections.abc import Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int32]

#: T is a multiple of this. On a CPU, softmax adds 16 numbers at a time, and a shorter remainder in
#: another order. Without a remainder, the sums of a row do not depend on its padding.
LANES = 16


class TokenPlaces(NamedTuple):
    """The place of each token in the flat list of all tokens and in the padded block."""

    lengths: Integers  # [B]     tokens of each row; 0 for a row that is padding
    row: Integers  # [N]     row of each token; -1 for a token that is padding
    position: Integers  # [N]     position of each token in its row; 0 for padding
    token_index: Integers  # [B, T]  flat index of each slot's token; 0 for padding

    @classmethod
    def of(cls, lengths: Integers, rows: int, tokens: int, slots: int) -> "TokenPlaces":
        """Compute the places of the tokens of rows with these lengths, and padding at the end.

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
    """Return the concatenated ids of all rows, padded with zeros at the end: [size]."""
    return np.fromiter(chain(chain.from_iterable(ids), repeat(0)), np.int32, size)


def widen(marks: bytes, size: int) -> Integers:
    """Return the marks of tokens (``sequences.marks``), padded with zeros at the end: [size]."""
    return np.frombuffer(marks.ljust(size, b"\0"), np.uint8).astype(np.int32)


def pad(array: Integers, size: int) -> Integers:
    """Return ``array``, padded with zeros at the end: [size]."""
    if len(array) == size:
        return array
    padded = np.zeros(size, np.int32)
    padded[: len(array)] = array
    return padded


def round_up(number: int) -> int:
    """Round up a number to one of 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ...."""
    unit = 1 << max(0, (number - 1).bit_length() - 3)
    return -(-number // unit) * unit


def padded_length(longest: int) -> int:
    """Return the number of slots to which rows of up to ``longest`` tokens are padded."""
    return -(-longest // LANES) * LANES
