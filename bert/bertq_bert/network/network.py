"""BERT's operations, written into a TensorFlow graph while it is traced.

Source of the formulas: Devlin et al. 2018 and ``modeling.py`` of google-research/bert. Here the
tokens of all rows are laid end to end, so that dense layers, LayerNorm and the activation see
no padding; only attention gathers them into a padded block.

Shapes: N tokens of B rows, T columns of the padded block; H hidden size, I intermediate size, A
heads of D each. Each layer's heads and intermediate columns are dealt to P parts, as in tensor
parallelism (Shoeybi et al. 2019, Megatron-LM, 3): idle threads take parts of a small batch.
"""

import tensorflow as tf

from bertq_bert.checkpoint import Weights
from bertq_bert.config import BertConfig
from bertq_bert.network.attention import Attention
from bertq_bert.network.dense import Dense
from bertq_bert.network.places import Places, Tensor
from bertq_bert.network.reduction import reduce
from bertq_bert.pooling import Pooling
from bertq_bert.tokenizing.sequences import ADDED


class Network:
    """The operations, written into the graph while TensorFlow traces ``rows``."""

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
        """Plan a graph for batches of at least ``floor`` tokens; ``words`` [V, H].

        The matrices of dense layers are constants of the graph, or tensors beside it, of which
        there is one copy. ``parts`` divides the number of heads and the intermediate size.
        """
        self.config = config
        self.weights = weights
        self.pooling = pooling
        self.words = words
        self.floor = floor
        self.heads = config.num_attention_heads // parts  # of each part
        self.dense = Dense(weights, dtype, constant, parts)
        self.attention = Attention(self.dense, self.heads, config.head_size)

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
            return self.feed_forward(x, self.attention.of(x, places, at), at)
        # M rows: at least ``floor``, lest the product's matrix be packed in two ways
        one = tf.gather(x, self.filled(chosen))  # [M, H]
        attended = self.attention.of(x, places, at, one)  # [M, H]
        return self.feed_forward(one, attended, at)[: tf.size(chosen)]

    def feed_forward(self, x: Tensor, attended: Tensor, at: str) -> Tensor:
        """What follows attention in a layer, token by token: [M, H] -> [M, H]."""
        x = self.layer_norm(x + attended, at + "attention/output/LayerNorm")  # [M, H]
        kernel, bias = self.dense.linear(at + "intermediate/dense")  # [H, I], [I]
        deal = self.dense.dealt
        # the activation in the compute dtype, so that the product takes it in
        inner = [
            self.activation(self.dense.matmul(x, columns, own))  # [M, I / P]
            for columns, own in zip(deal(kernel, 1), deal(bias, 0), strict=True)
        ]
        fed = self.dense.joined(inner, at + "output/dense")  # [M, H]
        return self.layer_norm(x + fed, at + "output/LayerNorm")

    def activation(self, x: Tensor) -> Tensor:
        """The config's ``hidden_act``, any shape."""
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
        """The pooler's tanh dense on each row's ``[CLS]``, and the head's labels if there is one.

        [B, H] -> [B, H], or -> [B, labels].
        """
        padded = tf.gather(first, self.filled(tf.range(tf.shape(first)[0])))  # [M, H]
        pooled = tf.tanh(self.dense.full(padded, *self.dense.linear("pooler/dense")))
        if self.pooling.has_head:
            pooled = self.labels(pooled)
        return pooled[: tf.shape(first)[0]]

    def labels(self, pooled: Tensor) -> Tensor:
        """The fine-tuned head: [M, H] -> [M, labels], in float32.

        As ``run_classifier.py`` of google-research/bert: probabilities of classes, that is a
        softmax; for a regression the logistic function of each number, as in bert-as-service.
        """
        kernel = tf.constant(self.weights["output_weights"].T)  # [H, labels]
        logits = tf.matmul(pooled, kernel) + self.weights["output_bias"]
        if self.pooling.strategy == "CLASSIFICATION":
            return tf.nn.softmax(logits)
        return tf.sigmoid(logits)

    def filled(self, indices: Tensor) -> Tensor:
        """``indices`` and as many zeros as make ``floor`` of them: [B] -> [M], B <= M."""
        return tf.pad(indices, [[0, tf.maximum(self.floor - tf.size(indices), 0)]])
