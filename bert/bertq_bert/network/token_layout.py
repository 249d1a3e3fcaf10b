"""Where tokens stand: in the list of all rows end to end, and in attention's padded block.

Shapes as in ``network``.
"""

from typing import Any, TypeAlias

import tensorflow as tf

#: TensorFlow has no types: every tensor is Any to mypy; the comments give the shapes.
Tensor: TypeAlias = Any

MASKED = -1e9  # added to float32 scores: their softmax is exactly 0


class TokenLayout:
    """Where each token stands: ``TokenPlaces`` in the graph, and what follows from them.

    Attributes:
        lengths: [B], tokens of each row, 0 for a row that is padding.
        row: [N], row of each token, -1 for padding.
        position: [N], position of each token in its row.
        token_index: [B, T], flat index of each slot's token, 0 for padding.
        heads: A, of one part.
        is_static: whether XLA compiles the graph.
        starts, last: [B], flat index of each row's first and last token; 0 for padding.
        longest: T.
        columns: [T], positions of the padded block.
        is_token: [B, T], whether a slot holds a token.
        bias: [B, 1, 1, T], hides padding from attention.
        vector_index: [N, A], where a token's head is among the vectors of [B, A, T].
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
        """Where each slot's vectors are among those of [N, parts, A]: [parts, B, A, T]."""
        part = tf.range(parts)[:, None, None, None]
        first = self.token_index[:, None, :] * parts + part  # [parts, B, 1, T]
        return first * self.heads + tf.range(self.heads)[:, None]

    def pad(self, x: Tensor) -> Tensor:
        """[N, X] -> [B, T, X]; padding repeats token 0."""
        return tf.gather(x, self.token_index)

    def sum(self, x: Tensor) -> Tensor:
        """Sum of each row's tokens: [N, X] -> [B, X]."""
        return tf.math.unsorted_segment_sum(x, self.row, tf.size(self.lengths))

    def max(self, x: Tensor) -> Tensor:
        """Greatest number of each row's tokens: [N, X] -> [B, X]."""
        return tf.math.unsorted_segment_max(x, self.row, tf.size(self.lengths))

    def min(self, x: Tensor) -> Tensor:
        """Least number of each row's tokens: [N, X] -> [B, X]."""
        return tf.math.unsorted_segment_min(x, self.row, tf.size(self.lengths))
