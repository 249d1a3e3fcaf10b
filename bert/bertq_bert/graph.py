"""The BERT encoder as one traced TensorFlow function with its weights frozen in.

Source of the formulas: Devlin et al. 2018 and `modeling.py` of google-research/bert. Here the
tokens of all rows are laid end to end, so that dense layers, LayerNorm and the activation see
no padding; only attention gathers them into a padded block.

Importing this module imports TensorFlow. Shapes: N tokens of B rows, T columns of the padded
block; H hidden size, I intermediate size, A heads of D each.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bertq_bert.checkpoint import Array, Weights
from bertq_bert.config import BertConfig
from bertq_bert.errors import UnknownDtype
from bertq_bert.pooling import Pooling

#: TensorFlow has no types: every tensor is Any to mypy; the comments give the shapes.
Tensor: TypeAlias = Any

#: T is a multiple of this. A CPU's softmax adds up 16 numbers at a time and a shorter rest in
#: another order: without rests, its sums do not depend on how far a row is padded.
_LANES = 16
_MASKED = -1e9  # added to float32 scores: their softmax is exactly 0


class Graph:
    """A frozen BERT with its pooling: token ids in, float32 rows out. Safe in many threads."""

    def __init__(self, config: BertConfig, weights: Weights, pooling: Pooling, dtype: str) -> None:
        """Trace the network once. `weights` is emptied: the graph holds the only copy.

        Raises
        ------
        UnknownDtype
            A weight is out of `dtype`'s range (float16).
        """
        # a GPU would multiply float32 with 10 bits of mantissa (TF32): 1e-3 off, not 2e-5
        tf.config.experimental.enable_tensor_float_32_execution(False)
        network = _Network(config, weights, pooling, dtype)
        vector = tf.TensorSpec([None], tf.int32)
        self.function = tf.function(network.rows, input_signature=[vector, vector], autograph=False)
        self.concrete = self.function.get_concrete_function()
        weights.clear()

    def __call__(self, ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> Array:
        """Rows of one batch.

        Parameters
        ----------
        ids
            int32 [N], the token ids of all rows end to end.
        lengths
            int32 [B], tokens of each row, at least 1; their sum is N.

        Returns
        -------
        float32 [B, dim]; for `NONE` [B, longest, dim] with zeros behind each row's end.
        """
        return np.asarray(self.function(ids, lengths).numpy(), dtype=np.float32)


@dataclass(frozen=True)
class _Places:
    """Where each token stands in the flat list and in the padded block."""

    lengths: Tensor  # [B]
    starts: Tensor  # [B]     flat index of each row's first token
    row: Tensor  # [N]     row of each token
    position: Tensor  # [N]     position of each token in its row
    real: Tensor  # [B, T]  whether a slot holds a token
    source: Tensor  # [B, T]  flat index of each slot's token; 0 for padding

    @classmethod
    def of(cls, lengths: Tensor) -> "_Places":
        """Work them out from the rows' lengths."""
        longest = tf.reduce_max(lengths)
        columns = tf.range((longest + _LANES - 1) // _LANES * _LANES)  # [T]
        starts = tf.cumsum(lengths, exclusive=True)  # [B]
        real = columns < lengths[:, None]  # [B, T]
        source = tf.where(real, starts[:, None] + columns, 0)  # [B, T]
        where = tf.cast(tf.where(real), tf.int32)  # [N, 2]
        return cls(lengths, starts, where[:, 0], where[:, 1], real, source)

    @property
    def last(self) -> Tensor:
        """Flat index of each row's last token: [B]."""
        return self.starts + self.lengths - 1

    def scores_bias(self) -> Tensor:
        """What hides padding from attention: [B, 1, 1, T]."""
        return tf.where(self.real, 0.0, _MASKED)[:, None, None, :]

    def pad(self, x: Tensor) -> Tensor:
        """[N, X] -> [B, T, X]; padding repeats token 0."""
        return tf.gather(x, self.source)

    def unpad(self, block: Tensor) -> Tensor:
        """[B, T, X] -> [N, X]."""
        return tf.gather_nd(block, tf.stack([self.row, self.position], 1))


class _Network:
    """The operations, written into the graph while TensorFlow traces `rows`."""

    def __init__(self, config: BertConfig, weights: Weights, pooling: Pooling, dtype: str) -> None:
        self.config = config
        self.weights = weights
        self.pooling = pooling
        self.dtype = tf.as_dtype(dtype)

    def rows(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [N], lengths [B] -> pooled rows, float32."""
        places = _Places.of(lengths)
        x = self.embed(ids, places)  # [N, H]
        outputs = []
        for index in range(self.pooling.depth):
            x = self.layer(x, places, index)  # [N, H]
            outputs.append(x)
        chosen = [outputs[self.pooling.num_layers + layer] for layer in self.pooling.layers]
        return self.pool(tf.concat(chosen, 1), places)

    def embed(self, ids: Tensor, places: _Places) -> Tensor:
        """Word + position + segment 0, normalised: [N, H]."""
        weight = self.weights
        words = tf.constant(weight["embeddings/word_embeddings"])  # [V, H]
        others = tf.constant(  # [P, H]
            weight["embeddings/position_embeddings"] + weight["embeddings/token_type_embeddings"][0]
        )
        x = tf.gather(words, ids) + tf.gather(others, places.position)  # [N, H]
        return self.layer_norm(x, "embeddings/LayerNorm")

    def layer(self, x: Tensor, places: _Places, index: int) -> Tensor:
        """One encoder layer: [N, H] -> [N, H]."""
        at = f"encoder/layer_{index}/"
        context = self.attention(x, places, at + "attention/self/")  # [N, H]
        attended = self.dense(context, *self.linear(at + "attention/output/dense"))  # [N, H]
        x = self.layer_norm(x + attended, at + "attention/output/LayerNorm")  # [N, H]
        inner = self.dense(x, *self.linear(at + "intermediate/dense"), self.activation)  # [N, I]
        fed = self.dense(inner, *self.linear(at + "output/dense"))  # [N, H]
        return self.layer_norm(x + fed, at + "output/LayerNorm")

    def attention(self, x: Tensor, places: _Places, at: str) -> Tensor:
        """softmax(Q K^T / sqrt(D)) V over the real tokens of each row: [N, H] -> [N, H]."""
        heads, size = self.config.num_attention_heads, self.config.head_size
        qkv = places.pad(self.matmul(x, *self.query_key_value(at)))  # [B, T, 3H]
        batch, longest = tf.unstack(tf.shape(places.real))
        qkv = tf.reshape(qkv, [batch, longest, 3, heads, size])  # [B, T, 3, A, D]
        q, k, v = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))  # 3 of [B, A, T, D]
        scores = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)  # [B, A, T, T]
        shares = tf.nn.softmax(scores + places.scores_bias())  # [B, A, T, T]
        context = tf.matmul(tf.cast(shares, self.dtype), v)  # [B, A, T, D]
        context = tf.transpose(context, [0, 2, 1, 3])  # [B, T, A, D]
        return places.unpad(tf.reshape(context, [batch, longest, heads * size]))

    def query_key_value(self, at: str) -> tuple[Array, Array]:
        """Q, K and V as one matrix [H, 3H] and bias [3H], the 1/sqrt(D) folded into Q."""
        scale = np.float32(1 / np.sqrt(self.config.head_size))
        query, key, value = (self.linear(at + name) for name in ("query", "key", "value"))
        kernel = np.concatenate([query[0] * scale, key[0], value[0]], axis=1)
        bias = np.concatenate([query[1] * scale, key[1], value[1]])
        return kernel, bias

    def linear(self, name: str) -> tuple[Array, Array]:
        """Kernel [in, out] and bias [out] of a dense layer."""
        return self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"]

    def matmul(self, x: Tensor, kernel: Array, bias: Array) -> Tensor:
        """x @ kernel + bias in the compute dtype: [N, in] -> [N, out]."""
        product = tf.matmul(tf.cast(x, self.dtype), self.frozen(kernel))
        return tf.nn.bias_add(product, self.frozen(bias))

    def dense(self, x: Tensor, kernel: Array, bias: Array, activation: Any = None) -> Tensor:
        """Activation of x @ kernel + bias in float32: [N, in] -> [N, out]."""
        y = tf.cast(self.matmul(x, kernel, bias), tf.float32)
        return activation(y) if activation else y

    def activation(self, x: Tensor) -> Tensor:
        """The config's `hidden_act`, any shape."""
        if self.config.hidden_act == "relu":
            return tf.nn.relu(x)
        return tf.nn.gelu(x, approximate=self.config.hidden_act != "gelu")

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        """(x - mean) / sqrt(variance + eps) * gamma + beta over the last axis, float32: [N, H]."""
        centred = x - tf.reduce_mean(x, -1, keepdims=True)  # [N, H]
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)  # [N, 1]
        # float64: the float32 rsqrt rounds a vector's last elements otherwise than the others,
        # so a row would change with its place in the batch
        variance = tf.cast(variance, tf.float64) + self.config.layer_norm_eps  # [N, 1]
        unit = centred * tf.cast(tf.math.rsqrt(variance), tf.float32)  # [N, H]
        return unit * self.weights[f"{name}/gamma"] + self.weights[f"{name}/beta"]

    def pool(self, x: Tensor, places: _Places) -> Tensor:
        """[N, X] -> [B, dim], or [B, longest, X] for NONE."""
        match self.pooling.strategy:
            case "REDUCE_MEAN":
                return self.mean(x, places)
            case "REDUCE_MAX":
                return tf.math.segment_max(x, places.row)
            case "REDUCE_MEAN_MAX":
                return tf.concat([self.mean(x, places), tf.math.segment_max(x, places.row)], 1)
            case "CLS_TOKEN":
                return tf.gather(x, places.starts)
            case "SEP_TOKEN":
                return tf.gather(x, places.last)
            case "CLS_POOLED":
                return self.cls_pooled(tf.gather(x, places.starts))
            case _:
                block = tf.where(places.real[:, :, None], places.pad(x), 0.0)  # [B, T, X]
                return block[:, : tf.reduce_max(places.lengths)]

    def cls_pooled(self, first: Tensor) -> Tensor:
        """The pooler's tanh dense on each row's `[CLS]`: [B, H] -> [B, H]."""
        # a product of a single row is a vector's, which a CPU adds up in another order
        first = tf.concat([first, first[:1]], 0)  # [B + 1, H]
        return self.dense(first, *self.linear("pooler/dense"), tf.tanh)[:-1]

    @staticmethod
    def mean(x: Tensor, places: _Places) -> Tensor:
        """Mean of each row's tokens: [N, X] -> [B, X]."""
        return tf.math.segment_sum(x, places.row) / tf.cast(places.lengths, tf.float32)[:, None]

    def frozen(self, array: Array) -> Tensor:
        """`array` as a constant of the compute dtype."""
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype.as_numpy_dtype)
        if not np.isfinite(cast).all():
            raise UnknownDtype(
                f"dtype {self.dtype.name} cannot hold this model's weights: use bfloat16 or float32"
            )
        return tf.constant(cast)
