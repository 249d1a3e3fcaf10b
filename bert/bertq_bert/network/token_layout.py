"""Where tokens stand: in the list of all rows end to end, and in attention's padded block.

Shapes as in ``network``.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import tensorflow as tf

#: TensorFlow has no types: every tensor is Any to mypy; the comments give the shapes.
Tensor: TypeAlias = Any

#: T is a multiple of this. A CPU's softmax adds up 16 numbers at a time and a shorter rest in
#: another order: without rests, its sums do not depend on how far a row is padded.
LANES = 16
MASKED = -1e9  # added to float32 scores: their softmax is exactly 0


@dataclass(frozen=True)
class TokenLayout:
    """Where each token stands in the flat list and in the padded block."""

    lengths: Tensor  # [B]
    starts: Tensor  # [B]     flat index of each row's first token
    row: Tensor  # [N]     row of each token
    position: Tensor  # [N]     position of each token in its row
    longest: Tensor  # T
    columns: Tensor  # [T]     positions of the padded block
    is_token: Tensor  # [B, T]  whether a slot holds a token
    token_index: Tensor  # [B, T]  flat index of each slot's token; 0 for padding
    bias: Tensor  # [B, 1, 1, T]  hides padding from attention
    heads: int  # A, of one part
    vector_index: Tensor  # [N, A]  where a token's head is among the vectors of [B, A, T]

    @classmethod
    def from_lengths(cls, lengths: Tensor, heads: int) -> "TokenLayout":
        """Compute the layout from the rows' lengths."""
        longest = (tf.reduce_max(lengths) + LANES - 1) // LANES * LANES
        columns = tf.range(longest)  # [T]
        head = tf.range(heads)  # [A]
        starts = tf.cumsum(lengths, exclusive=True)  # [B]
        is_token = columns < lengths[:, None]  # [B, T]
        token_index = tf.where(is_token, starts[:, None] + columns, 0)  # [B, T]
        where = tf.cast(tf.where(is_token), tf.int32)  # [N, 2]
        row, position = where[:, 0], where[:, 1]  # [N]
        bias = tf.where(is_token, 0.0, MASKED)[:, None, None, :]  # [B, 1, 1, T]
        vector_index = (row[:, None] * heads + head) * longest + position[:, None]  # [N, A]
        return cls(
            lengths,
            starts,
            row,
            position,
            longest,
            columns,
            is_token,
            token_index,
            bias,
            heads,
            vector_index,
        )

    @property
    def last(self) -> Tensor:
        """Flat index of each row's last token: [B]."""
        return self.starts + self.lengths - 1

    def slots(self, parts: int, part: int) -> Tensor:
        """Where each slot's vectors of one part are among those of [N, parts, A]: [B, A, T]."""
        first = self.token_index[:, None, :] * parts + part  # [B, 1, T]
        return first * self.heads + tf.range(self.heads)[None, :, None]

    def pad(self, x: Tensor) -> Tensor:
        """[N, X] -> [B, T, X]; padding repeats token 0."""
        return tf.gather(x, self.token_index)
