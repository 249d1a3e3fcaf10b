"""The network's operations, which TensorFlow adds to a graph while it traces them.

The formulas are those of Devlin et al. 2018 and of ``modeling.py`` of google-research/bert. The
fields of ``NetworkConfig`` describe how other families differ from BERT. The tokens of all rows are
concatenated, so that dense layers, LayerNorm and the activation need no padding. Only attention
gathers the tokens into a padded block.

Letters in shapes: N tokens of B rows, T columns of the padded block, H hidden size, I intermediate
size, A heads of D numbers each, E width of the embeddings. Each layer's heads and intermediate
columns are divided into P parts, as in tensor parallelism (Shoeybi et al. 2019, Megatron-LM,
section 3), so that idle threads can compute parts of a small batch.
"""

import functools
from typing import Any

import tensorflow as tf

from bertq_bert.checkpoint import Weights
from bertq_bert.config import NetworkConfig, Rotary
from bertq_bert.network.attention import Attention, SelectedTokens
from bertq_bert.network.dense import Dense
from bertq_bert.network.heads import Heads
from bertq_bert.network.normalization import layer_norm
from bertq_bert.network.padding import padded_length
from bertq_bert.network.positions import Positions
from bertq_bert.network.reduction import first_token_index, reduce
from bertq_bert.network.token_layout import Tensor, TokenLayout
from bertq_bert.pooling import Pooling
from bertq_bert.tokenizing.sequences import ADDED, PROMPT


class Network:
    """The operations of a network, which TensorFlow traces by a call of ``rows``."""

    def __init__(
        self,
        config: NetworkConfig,
        weights: Weights,
        pooling: Pooling,
        dtype: str,
        min_tokens: int,
        parts: int,
        *,
        is_fused: bool,
        max_scores: int | None = None,
    ) -> None:
        """Prepare the weights.

        Args:
            config: the hyper-parameters.
            weights: tensors by bertq's names; the table of word embeddings is removed from them.
            pooling: how to compute rows from token vectors.
            dtype: compute dtype of the dense layers.
            min_tokens: minimum tokens of a batch.
            parts: P, which must divide the number of heads and the intermediate size.
            is_fused: whether to use the operations of ``onednn``.
            max_scores: maximum scores of attention in memory, as for ``Graph``.
        """
        self.config = config
        self.weights = weights
        self.pooling = pooling
        self.min_tokens = min_tokens
        self.parts = parts
        self.dense = Dense(weights, dtype, parts, is_fused=is_fused)
        words = weights.pop("embeddings/word_embeddings")
        is_decoder = pooling.sparse and "predictions/decoder" not in weights
        if is_decoder or self.dense.dtype == tf.float32:  # a decoder computes rows, in float32
            self.words = tf.constant(words)  # [V, E]
        else:
            self.words = self.dense.tensor(words)
        self.heads = config.num_attention_heads // parts  # of each part
        self.attention = Attention(
            self.dense,
            self.heads,
            config.head_size,
            is_rotary=bool(config.rotary),
            max_scores=max_scores,
        )
        #: positions of the traced batch, for all layers with the same rotation and window
        self.positions_cache: dict[tuple[Rotary | None, int | None], list[Positions]] = {}
        self.head = Heads(config, weights, pooling, self.dense, min_tokens)

    def trace(self, *, is_static: bool = False) -> Any:
        """Trace ``rows``, and return the function; with ``is_static``, XLA compiles it."""
        function = tf.function(
            functools.partial(self.rows, is_static=is_static),
            input_signature=[tf.TensorSpec([None] * rank, tf.int32) for rank in (1, 1, 1, 1, 1, 2)],
            autograph=False,
            jit_compile=is_static or None,
        )
        return function.get_concrete_function()

    def rows(
        self,
        ids: Tensor,
        marks: Tensor,
        lengths: Tensor,
        row: Tensor,
        position: Tensor,
        token_index: Tensor,
        *,
        is_static: bool = False,
    ) -> Tensor:
        """Compute the rows of a batch and of its padding, in float32.

        Args:
            ids, marks: [N], the id and the marks (``sequences.marks``) of each token.
            lengths, row, position, token_index: as in ``TokenPlaces``.
            is_static: whether XLA compiles the graph.
        """
        layout = TokenLayout(lengths, row, position, token_index, self.heads, is_static=is_static)
        self.positions_cache = {}
        mask = self.find_mask(marks)  # [N], or None for all
        x = self.embed(ids, marks, layout)  # [N, H]
        outputs = []
        for index in range(self.pooling.depth - 1):
            x = self.layer(x, layout, index)  # [N, H]
            outputs.append(x)
        # The highest layer computes only tokens that the pooling uses: all, or one of each row.
        selected = self.select_tokens(layout, mask)  # [B], or None for all
        top = self.layer(x, layout, self.pooling.depth - 1, selected)
        if self.config.pre_norm and self.pooling.depth == self.config.num_hidden_layers:
            top = self.layer_norm(top, "encoder/LayerNorm")
        outputs.append(top)
        read = [outputs[self.pooling.num_layers + layer] for layer in self.pooling.layers]
        if self.pooling.sparse:
            return self.head.vocabulary(tf.concat(read, 1), self.words, layout)
        if selected is not None:
            row = tf.concat([x if x is top else tf.gather(x, selected) for x in read], 1)  # [B, X]
        elif self.pooling.has_labels:
            row = reduce(("mean",), tf.concat(read, 1), layout)
        else:
            row = reduce(self.pooling.modes, tf.concat(read, 1), layout, mask)
        return self.head.rows(row)

    def release(self) -> None:
        """Free the arrays and tensors that only tracing needs."""
        self.dense.release()
        self.positions_cache = {}

    def find_mask(self, marks: Tensor) -> Tensor:
        """Return whether the pooling includes each token: [N]; None if it includes all."""
        # A bitwise AND would run on the GPU, and the host would wait for it.
        mask = None
        if self.pooling.mask_cls_sep:
            mask = tf.less(tf.math.floormod(marks, 2 * ADDED), ADDED)
        if not self.pooling.include_prompt:
            own = tf.less(marks, PROMPT)
            mask = own if mask is None else mask & own
        return mask

    def select_tokens(self, layout: TokenLayout, mask: Tensor) -> Tensor:
        """Return the flat index of the only token of each row that the pooling uses.

        Returns:
            The indices [B]; None if the pooling uses all tokens.
        """
        if self.pooling.has_labels:
            return layout.starts if self.config.head_pooling == "cls" else None
        match self.pooling.modes:
            case ("pooler",):
                return layout.starts
            case ("cls",):
                return first_token_index(layout, mask)
            case ("lasttoken",):
                return layout.last
        return None

    def embed(self, ids: Tensor, marks: Tensor, layout: TokenLayout) -> Tensor:
        """Add up word, position and segment embeddings, normalize and project them: [N, H]."""
        x = tf.cast(tf.gather(self.words, ids), tf.float32)  # [N, E]
        # One table [S * P, E]: a look-up of the segment would take as long as the first one.
        positions = self.weights.get("embeddings/position_embeddings")  # [P, E], or none
        segments = self.weights.get("embeddings/token_type_embeddings")  # [S, E], or none
        if positions is not None or segments is not None:
            table, where = positions, self.table_rows(ids, layout)
            if segments is not None:
                segments = segments[:2]
                segment = tf.math.floormod(marks, ADDED) if len(segments) > 1 else 0  # SECOND or 0
                if positions is None:
                    table, where = segments, segment + tf.zeros_like(ids)
                else:
                    table = (segments[:, None] + positions).reshape(-1, positions.shape[1])
                    where += segment * len(positions)
            with tf.init_scope():  # outside the graph
                table = tf.constant(table)
            x += tf.gather(table, where)  # [N, E]
        x = self.layer_norm(x, "embeddings/LayerNorm")
        if "embeddings/project/kernel" in self.weights:
            x = self.dense.matmul_float32(x, *self.dense.linear("embeddings/project"))  # [N, H]
        return x

    def table_rows(self, ids: Tensor, layout: TokenLayout) -> Tensor:
        """Return the index of each token's position in the position table: [N]."""
        if self.config.padding_id is None:
            return layout.position
        # A padding token in a text has index 0. The other tokens are numbered from 1.
        is_token = tf.cast(tf.not_equal(ids, self.config.padding_id), tf.int32)  # [N]
        count = tf.cumsum(is_token)  # [N]
        before = tf.gather(tf.cumsum(is_token, exclusive=True), layout.starts)  # [B]
        in_row = tf.cast(layout.row >= 0, tf.int32)
        return (count - tf.gather(before, tf.maximum(layout.row, 0))) * is_token * in_row

    def positions(self, index: int, layout: TokenLayout) -> list[Positions]:
        """Return the positions for the attention of layer ``index``, an object for each part."""
        config = self.config
        rotary = config.rotary[index] if config.rotary else None
        window = config.window[index] if config.window else None
        if (rotary, window) not in self.positions_cache:
            relative = self.weights.get("encoder/relative_attention_bias")  # [buckets, A], or none
            self.positions_cache[rotary, window] = [
                Positions(
                    layout,
                    padded_length(config.max_position_embeddings),
                    rotary=rotary,
                    window=window,
                    relative=part,
                    size=config.head_size,
                )
                for part in self.dense.split(relative, 1)
            ]
        return self.positions_cache[rotary, window]

    def layer(self, x: Tensor, layout: TokenLayout, index: int, selected: Tensor = None) -> Tensor:
        """Apply an encoder layer.

        Args:
            x: [N, H], the output of the layer before.
            layout: the batch.
            index: number of the layer, from 0.
            selected: [B], flat index of a token of each row; None for all tokens.

        Returns:
            The output of the layer for all tokens, [N, H], or for the selected ones, [B, H].
        """
        at = f"encoder/layer_{self.config.stored_layer(index)}/"
        before = at + "attention/output/LayerNorm"
        # The input of the first layer of a pre-norm network is normalized already.
        read = self.layer_norm(x, before) if self.config.pre_norm and index else x
        positions = self.positions(index, layout)
        if selected is None:
            return self.after_attention(self.attention.apply(read, x, layout, at, positions), at)
        # M is a multiple of ``min_tokens``: oneDNN compiles code for each number of rows.
        indices = self.head.pad_indices(selected)  # [M]
        tokens = SelectedTokens(
            tf.gather(read, indices), tf.gather(x, indices), tf.gather(layout.position, selected)
        )
        attended = self.attention.apply(read, x, layout, at, positions, tokens)  # [M, H]
        return self.after_attention(attended, at)[: tf.size(selected)]

    def after_attention(self, x: Tensor, at: str) -> Tensor:
        """Apply the part of a layer after attention, to each token: [M, H] -> [M, H]."""
        if self.config.pre_norm:
            return self.feed_forward(self.layer_norm(x, at + "output/LayerNorm"), x, at)
        x = self.layer_norm(x, at + "attention/output/LayerNorm")  # [M, H]
        return self.layer_norm(self.feed_forward(x, x, at), at + "output/LayerNorm")

    def feed_forward(self, x: Tensor, residual: Tensor, at: str) -> Tensor:
        """Add the feed-forward layer of ``x`` to ``residual``: [M, H] -> [M, H].

        It consists of two dense layers with an activation between them.
        """
        # The activation is in the compute dtype, so that oneDNN can fuse it with the product.
        inner = [
            self.dense.matmul(x, *columns, self.config.hidden_act)  # [M, I / P]
            for columns in self.dense.columns_of(at + "intermediate/dense")
        ]
        if self.config.gated:
            gates = self.dense.columns_of(at + "intermediate/gate")
            inner = [
                part * self.dense.matmul(x, *columns)
                for part, columns in zip(inner, gates, strict=True)
            ]
        return self.dense.combine(residual, inner, at + "output/dense")  # [M, H]

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        """Apply the LayerNorm with the weights ``name``, in float32: [N, H] -> [N, H]."""
        gamma, beta = self.weights[f"{name}/gamma"], self.weights.get(f"{name}/beta")
        epsilon = self.config.layer_norm_eps
        return layer_norm(x, gamma, beta, epsilon, is_fused=self.dense.has_fused_norm)
