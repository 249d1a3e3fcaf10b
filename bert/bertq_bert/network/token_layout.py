"""The places of tokens: in the concatenation of all rows, and in the padded block of attention.

The letters in shapes are those of ``network``.
"""

from typing import Any, TypeAlias

import tensorflow as tf

#: TensorFlow has no type information, so a tensor is Any for mypy. Comments state the shapes.
Tensor: TypeAlias = Any

MASKED = -1e9  # added to a float32 score, makes its softmax exactly 0


class TokenLayout:
    """The place of each token: ``TokenPlaces`` as tensors, and tensors derived from them.

    Attributes:
        lengths: [B], number of tokens of each row; 0 for a row of padding.
        row: [N], row of each token; -1 for padding.
        position: [N], position of each token in its row.
        token_index: [B, T], flat index of the token in each slot; 0 for padding.
        heads: number of heads of one part.
        is_static: whether XLA compiles the graph.
        starts, last: [B], flat index of the first and the last token of each row; 0 for padding.
        longest: T.
        columns: [T], positions of the padded block.
        is_token: [B, T], whether a slot has a token.
        bias: [B, 1, 1, T], added to scores to mask padding.
        vector_index: [N, A], index of each token's heads among the vectors of [B, A, T].
    """

    def __init__(
        self,
        lengths: Tensor,
        row: Tensor,
        position: Tensor,
        token_index: Tensor,
        heads: int,
        *,
        is_static: bool,
    ) -> None:
        self.lengths = lengths
        self.row = row
        self.position = position
        self.token_index = token_index
        self.heads = heads
        self.is_static = is_static
        self.starts = token_index[:, 0]
        self.last = tf.maximum(self.starts + lengths - 1, 0)
        self.longest = tf.shape(token_index)[1]
        self.columns = tf.range(self.longest)
        self.is_token = self.columns < lengths[:, None]
        self.bias = tf.where(self.is_token, 0.0, MASKED)[:, None, None, :]
        first = tf.maximum(row, 0)[:, None] * heads + tf.range(heads)  # [N, A]
        self.vector_index = first * self.longest + position[:, None]

    def slots(self, parts: int) -> Tensor:
        """Return the index of each slot's vectors among those of [N, parts, A].

        Returns:
            The indices [parts, B, A, T].
        """
        part = tf.range(parts)[:, None, None, None]
        first = self.token_index[:, None, :] * parts + part  # [parts, B, 1, T]
        return first * self.heads + tf.range(self.heads)[:, None]

    def pad(self, x: Tensor) -> Tensor:
        """Gather tokens into the padded block: [N, X] -> [B, T, X]; padding repeats token 0."""
        return tf.gather(x, self.token_index)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of the tokens of each row: [N, X] -> [B, X]."""
        return tf.math.unsorted_segment_sum(x, self.row, tf.size(self.lengths))

    def max(self, x: Tensor) -> Tensor:
        """Return the maximum of the tokens of each row, by column: [N, X] -> [B, X]."""
        return tf.math.unsorted_segment_max(x, self.row, tf.size(self.lengths))

    def min(self, x: Tensor) -> Tensor:
        """Return the minimum of the tokens of each row, by column: [N, X] -> [B, X]."""
        return tf.math.unsorted_segment_min(x, self.row, tf.size(self.lengths))
