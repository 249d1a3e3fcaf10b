"""Attention of a layer, written into the graph; shapes as in ``network``."""

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array
from bertq_bert.network.dense import Dense
from bertq_bert.network.places import Places, Tensor


class Attention:
    """Attention of ``heads`` heads in each part, ``size`` numbers each."""

    def __init__(self, dense: Dense, heads: int, size: int) -> None:
        self.dense = dense
        self.heads = heads
        self.size = size

    def of(self, x: Tensor, places: Places, at: str, one: Tensor = None) -> Tensor:
        """Attention and its output product of all tokens, or of one token of each row.

        x [N, H] -> [N, H]; with one [M, H], the tokens of B <= M rows, -> [M, H].
        """
        inputs = self.query_key_value(at + "attention/self/")
        if one is None:
            contexts = [self.contexts(x, places, kernel, bias) for kernel, bias in inputs]
        else:
            contexts = [self.contexts_of(one, x, places, kernel, bias) for kernel, bias in inputs]
        return self.dense.joined(contexts, at + "attention/output/dense")

    def contexts(self, x: Tensor, places: Places, kernel: Array, bias: Array) -> Tensor:
        """softmax(Q K^T / sqrt(D)) V of a part's heads, over the real tokens of each row.

        x [N, H], kernel [H, 3H / P], bias [3H / P] -> [N, H / P].
        """
        size = self.size
        qkv = self.dense.matmul(x, kernel, bias)  # [N, 3H / P]
        # one gather pads and transposes: a transpose of its own costs more than the products
        vectors = tf.reshape(qkv, [-1, size])  # [N * 3A / P, D]
        q, k, v = (tf.gather(vectors, places.slots(3, part)) for part in range(3))  # [B, A/P, T, D]
        context = self.weigh(q, k, v, places)  # [B, A / P, T, D]
        context = tf.gather(tf.reshape(context, [-1, size]), places.back)  # [N, A / P, D]
        return tf.reshape(context, [-1, self.heads * size])

    def contexts_of(
        self, one: Tensor, x: Tensor, places: Places, kernel: Array, bias: Array
    ) -> Tensor:
        """The same for one token of each row: one [M, H] -> [M, H / P]."""
        size = self.size
        width, rows = self.heads * size, tf.size(places.lengths)
        q = self.dense.matmul(one, kernel[:, :width], bias[:width])[:rows]  # [B, H / P]
        kv = self.dense.matmul(x, kernel[:, width:], bias[width:])  # [N, 2H / P]
        vectors = tf.reshape(kv, [-1, size])  # [N * 2A / P, D]
        k, v = (tf.gather(vectors, places.slots(2, part)) for part in range(2))  # [B, A/P, T, D]
        q = tf.reshape(q, [rows, self.heads, 1, size])
        context = tf.reshape(self.weigh(q, k, v, places), [rows, width])  # [B, H / P]
        return tf.pad(context, [[0, tf.shape(one)[0] - rows], [0, 0]])

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, places: Places) -> Tensor:
        """softmax(q k^T) v: q [B, A, S, D], k and v [B, A, T, D] -> [B, A, S, D]."""
        scores = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)  # [B, A, S, T]
        shares = tf.nn.softmax(scores + places.bias)  # [B, A, S, T]
        return tf.matmul(tf.cast(shares, self.dense.dtype), v)

    def query_key_value(self, at: str) -> list[tuple[Array, Array]]:
        """Each part's Q, K and V as one matrix [H, 3H / P] and bias [3H / P].

        The 1/sqrt(D) is folded into Q.
        """
        scale = np.float32(1 / np.sqrt(self.size))
        query, key, value = (self.dense.linear(at + name) for name in ("query", "key", "value"))
        triple = ((query[0] * scale, query[1] * scale), key, value)
        kernels = zip(*(self.dense.dealt(kernel, 1) for kernel, _ in triple), strict=True)
        biases = zip(*(self.dense.dealt(bias, 0) for _, bias in triple), strict=True)
        return [
            (np.concatenate(kernel, 1), np.concatenate(bias))
            for kernel, bias in zip(kernels, biases, strict=True)
        ]
