"""BERT's operations, written into a TensorFlow graph while it is traced.

Source of the formulas: Devlin et al. 2018 and `modeling.py` of google-research/bert. Here the
tokens of all rows are laid end to end, so that dense layers, LayerNorm and the activation see
no padding; only attention gathers them into a padded block.

Shapes: N tokens of B rows, T columns of the padded block; H hidden size, I intermediate size, A
heads of D each. Each layer's heads and intermediate columns are dealt to P parts, as in tensor
parallelism (Shoeybi et al. 2019, Megatron-LM, 3): idle threads take parts of a small batch.
"""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array, Weights
from bertq_bert.config import BertConfig
from bertq_bert.errors import UnknownDtype
from bertq_bert.places import Places, Tensor
from bertq_bert.pooling import Pooling
from bertq_bert.reduction import reduce
from bertq_bert.sequences import ADDED


class Network:
    """The operations, written into the graph while TensorFlow traces `rows`."""

    def __init__(
        self,
        config: BertConfig,
        weights: Weights,
        pooling: Pooling,
        dtype: str,
        words: Tensor,
        floor: int,
        constant: bool,
        parts: int,
    ) -> None:
        """Plan a graph for batches of at least `floor` tokens; `words` [V, H].

        The matrices of dense layers are constants of the graph, or tensors beside it, of which
        there is one copy. `parts` divides the number of heads and the intermediate size.
        """
        self.config = config
        self.weights = weights
        self.pooling = pooling
        self.dtype = tf.as_dtype(dtype)
        self.words = words
        self.floor = floor
        self.constant = constant
        self.parts = parts
        self.heads = config.num_attention_heads // parts  # of each part

    def rows(self, ids: Tensor, lengths: Tensor, marks: Tensor) -> Tensor:
        """ids [N], lengths [B], marks [N] -> pooled rows, float32."""
        places = Places.of(lengths, self.heads)
        x = self.embed(ids, marks, places)  # [N, H]
        outputs = []
        for index in range(self.pooling.depth - 1):
            x = self.layer(x, places, index)  # [N, H]
            outputs.append(x)
        # of the highest layer only what is read: all tokens, or one of each row
        chosen = self.chosen(places)  # [B], or None for all
        outputs.append(self.layer(x, places, self.pooling.depth - 1, chosen))
        read = [outputs[self.pooling.num_layers + layer] for layer in self.pooling.layers]
        if chosen is None:
            x = tf.concat(read, 1)  # [N, X]
            kept = tf.less(marks, ADDED) if self.pooling.mask_cls_sep else None  # [N]
            return reduce(self.pooling.strategy, x, places, kept)
        top = outputs[-1]
        row = tf.concat([x if x is top else tf.gather(x, chosen) for x in read], 1)  # [B, X]
        return self.cls_pooled(row) if self.pooling.needs_pooler else row

    def chosen(self, places: Places) -> Tensor:
        """Flat index of the one token of each row that is read: [B]; None if all are."""
        if self.pooling.strategy == "CLS_TOKEN" or self.pooling.needs_pooler:
            return places.starts
        return places.last if self.pooling.strategy == "SEP_TOKEN" else None

    def embed(self, ids: Tensor, marks: Tensor, places: Places) -> Tensor:
        """Word + position + segment, normalised: [N, H]."""
        # one table [S * P, H]: a look-up of its own for the segment would cost as much again
        segments = self.weights["embeddings/token_type_embeddings"][:2]  # [S, H]
        # not the bitwise and: a GPU would do that itself, and the host wait for it
        segment = tf.math.floormod(marks, ADDED)  # [N], 0 or SECOND
        positions = self.weights.get("embeddings/position_embeddings")  # [P, H], or none
        if positions is None:
            others, where = segments, segment
        else:
            others = (segments[:, None] + positions).reshape(-1, self.config.hidden_size)
            where = places.position + segment * len(positions)  # [N]
        x = tf.gather(self.words, ids) + tf.gather(tf.constant(others), where)  # [N, H]
        return self.layer_norm(x, "embeddings/LayerNorm")

    def layer(self, x: Tensor, places: Places, index: int, chosen: Tensor = None) -> Tensor:
        """One encoder layer: [N, H] -> [N, H], or -> [B, H] of the chosen tokens alone."""
        at = f"encoder/layer_{index}/"
        if chosen is None:
            return self.feed_forward(x, self.attention(x, places, at), at)
        # M rows: at least `floor`, lest the product's matrix be packed in two ways
        one = tf.gather(x, self.filled(chosen))  # [M, H]
        attended = self.attention(x, places, at, one)  # [M, H]
        return self.feed_forward(one, attended, at)[: tf.size(chosen)]

    def feed_forward(self, x: Tensor, attended: Tensor, at: str) -> Tensor:
        """What follows attention in a layer, token by token: [M, H] -> [M, H]."""
        x = self.layer_norm(x + attended, at + "attention/output/LayerNorm")  # [M, H]
        kernel, bias = self.linear(at + "intermediate/dense")  # [H, I], [I]
        # the activation in the compute dtype, so that the product takes it in
        inner = [
            self.activation(self.matmul(x, columns, own))  # [M, I / P]
            for columns, own in zip(self.dealt(kernel, 1), self.dealt(bias, 0), strict=True)
        ]
        fed = self.joined(inner, at + "output/dense")  # [M, H]
        return self.layer_norm(x + fed, at + "output/LayerNorm")

    def attention(self, x: Tensor, places: Places, at: str, one: Tensor = None) -> Tensor:
        """Attention and its output product of all tokens, or of one token of each row.

        x [N, H] -> [N, H]; with one [M, H], the tokens of B <= M rows, -> [M, H].
        """
        inputs = self.query_key_value(at + "attention/self/")
        if one is None:
            contexts = [self.contexts(x, places, kernel, bias) for kernel, bias in inputs]
        else:
            contexts = [self.contexts_of(one, x, places, kernel, bias) for kernel, bias in inputs]
        return self.joined(contexts, at + "attention/output/dense")

    def contexts(self, x: Tensor, places: Places, kernel: Array, bias: Array) -> Tensor:
        """softmax(Q K^T / sqrt(D)) V of a part's heads, over the real tokens of each row.

        x [N, H], kernel [H, 3H / P], bias [3H / P] -> [N, H / P].
        """
        size = self.config.head_size
        qkv = self.matmul(x, kernel, bias)  # [N, 3H / P]
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
        size = self.config.head_size
        width, rows = self.heads * size, tf.size(places.lengths)
        q = self.matmul(one, kernel[:, :width], bias[:width])[:rows]  # [B, H / P]
        kv = self.matmul(x, kernel[:, width:], bias[width:])  # [N, 2H / P]
        vectors = tf.reshape(kv, [-1, size])  # [N * 2A / P, D]
        k, v = (tf.gather(vectors, places.slots(2, part)) for part in range(2))  # [B, A/P, T, D]
        q = tf.reshape(q, [rows, self.heads, 1, size])
        context = tf.reshape(self.weigh(q, k, v, places), [rows, width])  # [B, H / P]
        return tf.pad(context, [[0, tf.shape(one)[0] - rows], [0, 0]])

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, places: Places) -> Tensor:
        """softmax(q k^T) v: q [B, A, S, D], k and v [B, A, T, D] -> [B, A, S, D]."""
        scores = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)  # [B, A, S, T]
        shares = tf.nn.softmax(scores + places.bias)  # [B, A, S, T]
        return tf.matmul(tf.cast(shares, self.dtype), v)

    def query_key_value(self, at: str) -> list[tuple[Array, Array]]:
        """Each part's Q, K and V as one matrix [H, 3H / P] and bias [3H / P].

        The 1/sqrt(D) is folded into Q.
        """
        scale = np.float32(1 / np.sqrt(self.config.head_size))
        query, key, value = (self.linear(at + name) for name in ("query", "key", "value"))
        triple = ((query[0] * scale, query[1] * scale), key, value)
        kernels = zip(*(self.dealt(kernel, 1) for kernel, _ in triple), strict=True)
        biases = zip(*(self.dealt(bias, 0) for _, bias in triple), strict=True)
        return [
            (np.concatenate(kernel, 1), np.concatenate(bias))
            for kernel, bias in zip(kernels, biases, strict=True)
        ]

    def dealt(self, array: Array, axis: int) -> list[Array]:
        """`array` cut along an axis, one piece for each part."""
        return np.split(array, self.parts, axis)

    def joined(self, inner: list[Tensor], name: str) -> Tensor:
        """The dense layer `name` of parts that lie side by side: P of [N, in / P] -> [N, out]."""
        kernel, bias = self.linear(name)  # [in, out], [out]
        products = [
            self.dense(x, rows, None if part else bias)  # [N, out]
            for part, (x, rows) in enumerate(zip(inner, self.dealt(kernel, 0), strict=True))
        ]
        return functools.reduce(tf.add, products)

    def linear(self, name: str) -> tuple[Array, Array]:
        """Kernel [in, out] and bias [out] of a dense layer."""
        return self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"]

    def matmul(self, x: Tensor, kernel: Array, bias: Array | None) -> Tensor:
        """x @ kernel + bias, if any, in the compute dtype: [N, in] -> [N, out]."""
        with contextlib.nullcontext() if self.constant else tf.init_scope():
            matrix = self.tensor(kernel)
        product = tf.matmul(tf.cast(x, self.dtype), matrix)
        return product if bias is None else tf.nn.bias_add(product, self.tensor(bias))

    def dense(self, x: Tensor, kernel: Array, bias: Array | None) -> Tensor:
        """x @ kernel + bias, if any, in float32: [N, in] -> [N, out]."""
        return tf.cast(self.matmul(x, kernel, bias), tf.float32)

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

    def cls_pooled(self, first: Tensor) -> Tensor:
        """The pooler's tanh dense on each row's `[CLS]`, and the head's labels if there is one.

        [B, H] -> [B, H], or -> [B, labels].
        """
        padded = tf.gather(first, self.filled(tf.range(tf.shape(first)[0])))  # [M, H]
        pooled = tf.tanh(self.dense(padded, *self.linear("pooler/dense")))
        if self.pooling.has_head:
            pooled = self.labels(pooled)
        return pooled[: tf.shape(first)[0]]

    def labels(self, pooled: Tensor) -> Tensor:
        """The fine-tuned head: [M, H] -> [M, labels], in float32.

        As `run_classifier.py` of google-research/bert: probabilities of classes, that is a softmax;
        for a regression the logistic function of each number, as in bert-as-service.
        """
        kernel = tf.constant(self.weights["output_weights"].T)  # [H, labels]
        logits = tf.matmul(pooled, kernel) + self.weights["output_bias"]
        if self.pooling.strategy == "CLASSIFICATION":
            return tf.nn.softmax(logits)
        return tf.sigmoid(logits)

    def filled(self, indices: Tensor) -> Tensor:
        """`indices` and as many zeros as make `floor` of them: [B] -> [M], B <= M."""
        return tf.pad(indices, [[0, tf.maximum(self.floor - tf.size(indices), 0)]])

    def tensor(self, array: Array) -> Tensor:
        """`array` in the compute dtype."""
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype.as_numpy_dtype)
        if not np.isfinite(cast).all():
            raise UnknownDtype(
                f"dtype {self.dtype.name} cannot hold this model's weights: use bfloat16 or float32"
            )
        return tf.constant(cast)
