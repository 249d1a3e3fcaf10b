"""Attention of a layer, as TensorFlow operations; letters in shapes as in ``network``."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array
from bertq_bert.network import onednn
from bertq_bert.network.dense import Dense, Pieces
from bertq_bert.network.positions import Positions, order_pairs
from bertq_bert.network.token_layout import Tensor, TokenLayout


class SelectedTokens(NamedTuple):
    """One token of each row."""

    x: Tensor  # [M, H]  the tokens of B <= M rows
    residual: Tensor  # [M, H]  the residual connection of the layer
    position: Tensor  # [B]  position of each token in its row


class Attention:
    """The attention of all layers."""

    def __init__(
        self, dense: Dense, heads: int, size: int, *, is_rotary: bool, max_scores: int | None
    ) -> None:
        """Store the settings.

        Args:
            dense: the dense layers of the network.
            heads: number of heads of each part, A / P.
            size: size of a head, D.
            is_rotary: whether queries and keys are rotated by their positions.
            max_scores: maximum scores (rows x heads x queries x keys) in memory at once. If a batch
                has more, its queries are computed in blocks. None for no maximum.
        """
        self.dense = dense
        self.heads = heads
        self.size = size
        self.is_rotary = is_rotary
        self.max_scores = max_scores

    def apply(
        self,
        x: Tensor,
        residual: Tensor,
        layout: TokenLayout,
        at: str,
        positions: list[Positions],
        selected: SelectedTokens | None = None,
    ) -> Tensor:
        """Add attention and its output product to the residual connection.

        Args:
            x: [N, H], the tokens.
            residual: [N, H], the residual connection.
            layout: the places of the tokens.
            at: prefix of the names of the layer's weights.
            positions: the positions, an object for each part.
            selected: a token of each row; None for all tokens.

        Returns:
            [N, H] for all tokens; [M, H] for the selected tokens of B <= M rows.
        """
        parts = zip(self.query_key_value(at + "attention/self/"), positions, strict=True)
        if selected is None:
            contexts = [self.contexts(x, layout, *matrices, where) for matrices, where in parts]
        else:
            contexts = [
                self.selected_contexts(selected, x, layout, *matrices, where)
                for matrices, where in parts
            ]
            residual = selected.residual
        return self.dense.combine(residual, contexts, at + "attention/output/dense")

    def contexts(
        self, x: Tensor, layout: TokenLayout, kernel: Array, bias: Array | None, where: Positions
    ) -> Tensor:
        """Return softmax(Q K^T / sqrt(D)) V of a part's heads, over the tokens of each row.

        x [N, H], kernel [H, 3H / P], bias [3H / P] -> [N, H / P].
        """
        size = self.size
        qkv = self.dense.matmul(x, kernel, bias)  # [N, 3H / P]
        # One gather pads and transposes: a separate transpose takes longer than the products.
        vectors = tf.reshape(qkv, [-1, size])  # [N * 3A / P, D]
        q, k, v = tf.unstack(tf.gather(vectors, layout.slots(3)), 3)  # [B, A / P, T, D] each
        context = self.attend_all(where.rotate(q), where.rotate(k), v, layout, where)
        context = tf.gather(tf.reshape(context, [-1, size]), layout.vector_index)  # [N, A / P, D]
        return tf.reshape(context, [-1, self.heads * size])

    def selected_contexts(
        self,
        selected: SelectedTokens,
        x: Tensor,
        layout: TokenLayout,
        kernel: Array,
        bias: Array | None,
        where: Positions,
    ) -> Tensor:
        """Return the result of ``contexts`` for a token of each row: [M, H] -> [M, H / P]."""
        size = self.size
        width, rows = self.heads * size, tf.size(layout.lengths)
        q_bias, kv_bias = (None, None) if bias is None else (bias[:width], bias[width:])
        q = self.dense.matmul(selected.x, kernel[:, :width], q_bias)[:rows]  # [B, H / P]
        kv = self.dense.matmul(x, kernel[:, width:], kv_bias)  # [N, 2H / P]
        vectors = tf.reshape(kv, [-1, size])  # [N * 2A / P, D]
        k, v = tf.unstack(tf.gather(vectors, layout.slots(2)), 2)  # [B, A / P, T, D] each
        q = tf.reshape(q, [rows, self.heads, 1, size])
        q, k = where.rotate_at(q, selected.position), where.rotate(k)
        bias = where.bias_of(selected.position[:, None])  # [B or 1, A / P or 1, 1, T]
        context = self.attend(q, k, v, bias)  # [B, A / P, 1, D]
        context = tf.reshape(context, [rows, width])  # [B, H / P]
        return tf.pad(context, [[0, tf.shape(selected.x)[0] - rows], [0, 0]])

    def attend_all(
        self, q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout, where: Positions
    ) -> Tensor:
        """Apply ``attend`` to all tokens, in blocks of queries if there are too many scores.

        q, k, v [B, A, T, D] -> [B, A, T, D].
        """
        if self.max_scores is None or layout.is_static:
            return self.attend(q, k, v, where.bias)
        longest = layout.longest
        scores_per_query = tf.size(layout.is_token) * self.heads
        block_size = tf.maximum(self.max_scores // scores_per_query, 1)  # queries

        def whole() -> Tensor:
            return self.attend(q, k, v, where.bias_of(layout.columns))

        def blocks() -> Tensor:
            count = (longest + block_size - 1) // block_size
            found = tf.TensorArray(v.dtype, count, infer_shape=False)

            def step(number: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
                start = number * block_size
                block = slice(start, start + block_size)
                bias = where.bias_of(layout.columns[block])
                context = self.attend(q[:, :, block], k, v, bias)  # [B, A, S, D]
                # Blocks of different lengths can be concatenated only along their first axis.
                return number + 1, found.write(number, tf.transpose(context, [2, 0, 1, 3]))

            _, found = tf.while_loop(
                lambda number, _: number < count, step, [0, found], parallel_iterations=1
            )
            return tf.transpose(found.concat(), [1, 2, 0, 3])

        return tf.cond(longest <= block_size, whole, blocks)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Return softmax(q k^T + bias) v: q [B, A, S, D], k and v [B, A, T, D] -> [B, A, S, D]."""
        if self.dense.is_fused:
            # Also in bfloat16, oneDNN adds the bias and computes the softmax in float32.
            scores = onednn.scores(q, k, tf.cast(bias, q.dtype))  # [B, A, S, T]
            return tf.matmul(tf.nn.softmax(scores), v)
        scores = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)  # [B, A, S, T]
        shares = tf.nn.softmax(scores + bias)  # [B, A, S, T]
        return tf.matmul(tf.cast(shares, self.dense.dtype), v)

    def query_key_value(self, at: str) -> Pieces:
        """Return each part's weights of Q, K and V, as one kernel [H, 3H / P] and bias [3H / P].

        The weights of Q include the factor 1 / sqrt(D).
        """
        return self.dense.cached(at, lambda: self._query_key_value(at))

    def _query_key_value(self, at: str) -> Pieces:
        scale = np.float32(1 / np.sqrt(self.size))
        layers = [self.dense.linear(at + name) for name in ("query", "key", "value")]
        kernels = [kernel for kernel, _ in layers]
        biases = [bias for _, bias in layers if bias is not None]
        for arrays in (kernels, biases):
            if arrays:
                arrays[0] = arrays[0] * scale
                if self.is_rotary:
                    arrays[:2] = [order_pairs(array, self.size) for array in arrays[:2]]
        parts = self.dense.parts
        pieces = zip(*(np.split(kernel, parts, 1) for kernel in kernels), strict=True)
        found = [np.concatenate(piece, 1) for piece in pieces]
        if not biases:
            return [(kernel, None) for kernel in found]
        ends = zip(*(np.split(bias, parts) for bias in biases), strict=True)
        return list(zip(found, map(np.concatenate, ends), strict=True))
