"""The network's operations, written into a TensorFlow graph while it is traced.

Source of the formulas: Devlin et al. 2018 and ``modeling.py`` of google-research/bert; the other
families differ from BERT in what ``NetworkConfig`` names. Here the tokens of all rows are laid end
to end, so that dense layers, LayerNorm and the activation see no padding; only attention gathers
them into a padded block.

Shapes: N tokens of B rows, T columns of the padded block; H hidden size, I intermediate size, A
heads of D each, E width of the embeddings. Each layer's heads and intermediate columns are dealt
to P parts, as in tensor parallelism (Shoeybi et al. 2019, Megatron-LM, 3): idle threads take parts
of a small batch.
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
    """The operations, written into the graph while TensorFlow traces ``rows``."""

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
        """Plan a graph for batches of at least ``min_tokens`` tokens.

        ``parts`` divides the number of heads and the intermediate size. With ``is_fused``, the
        operations are those of ``onednn``. ``max_scores`` bounds the memory of attention.
        """
        self.config = config
        self.weights = weights
        self.pooling = pooling
        self.min_tokens = min_tokens
        self.parts = parts
        self.dense = Dense(weights, dtype, parts, is_fused=is_fused)
        words = weights.pop("embeddings/word_embeddings")
        is_decoder = pooling.sparse and "predictions/decoder" not in weights
        if is_decoder or self.dense.dtype == tf.float32:  # as a decoder, it gives the rows
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
        #: positions in the traced batch, shared by layers with the same rotation and window
        self.positions_cache: dict[tuple[Rotary | None, int | None], list[Positions]] = {}
        self.head = Heads(config, weights, pooling, self.dense, min_tokens)

    def trace(self, *, is_static: bool = False) -> Any:
        """Return the traced function of ``rows``; with ``is_static``, XLA compiles it."""
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
        """Compute the rows of a batch, and of its padding, in float32.

        Args:
            ids, marks: [N], of each token.
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
        # the highest layer computes only the tokens that are read: all, or one of each row
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
        """Which tokens are pooled: [N]; None if all are."""
        # not the bitwise and: a GPU would do that itself, and the host wait for it
        mask = None
        if self.pooling.mask_cls_sep:
            mask = tf.less(tf.math.floormod(marks, 2 * ADDED), ADDED)
        if not self.pooling.include_prompt:
            own = tf.less(marks, PROMPT)
            mask = own if mask is None else mask & own
        return mask

    def select_tokens(self, layout: TokenLayout, mask: Tensor) -> Tensor:
        """Flat index of the one token of each row that is read: [B]; None if all are."""
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
        """Word + position + segment, normalised and projected: [N, H]."""
        x = tf.cast(tf.gather(self.words, ids), tf.float32)  # [N, E]
        # one table [S * P, E]: a second look-up for the segment would cost as much again
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
            with tf.init_scope():  # outside of the graph
                table = tf.constant(table)
            x += tf.gather(table, where)  # [N, E]
        x = self.layer_norm(x, "embeddings/LayerNorm")
        if "embeddings/project/kernel" in self.weights:
            x = self.dense.matmul_float32(x, *self.dense.linear("embeddings/project"))  # [N, H]
        return x

    def table_rows(self, ids: Tensor, layout: TokenLayout) -> Tensor:
        """Row of each token's position in the table of positions: [N]."""
        if self.config.padding_id is None:
            return layout.position
        # a padding token in a text takes row 0, and the others are counted from 1 on without it
        is_token = tf.cast(tf.not_equal(ids, self.config.padding_id), tf.int32)  # [N]
        count = tf.cumsum(is_token)  # [N]
        before = tf.gather(tf.cumsum(is_token, exclusive=True), layout.starts)  # [B]
        in_row = tf.cast(layout.row >= 0, tf.int32)
        return (count - tf.gather(before, tf.maximum(layout.row, 0))) * is_token * in_row

    def positions(self, index: int, layout: TokenLayout) -> list[Positions]:
        """Return the positions for the attention of layer ``index``, one object for each part."""
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
        """One encoder layer: [N, H] -> [N, H], or -> [B, H] of the selected tokens alone."""
        at = f"encoder/layer_{self.config.stored_layer(index)}/"
        before = at + "attention/output/LayerNorm"
        # the first layer of a pre-norm network reads embeddings that are normalised already
        read = self.layer_norm(x, before) if self.config.pre_norm and index else x
        positions = self.positions(index, layout)
        if selected is None:
            return self.after_attention(self.attention.apply(read, x, layout, at, positions), at)
        # M rows, a multiple of ``min_tokens``: oneDNN prepares code for each number of rows
        indices = self.head.pad_indices(selected)  # [M]
        tokens = SelectedTokens(
            tf.gather(read, indices), tf.gather(x, indices), tf.gather(layout.position, selected)
        )
        attended = self.attention.apply(read, x, layout, at, positions, tokens)  # [M, H]
        return self.after_attention(attended, at)[: tf.size(selected)]

    def after_attention(self, x: Tensor, at: str) -> Tensor:
        """Run the rest of a layer after attention, token by token: [M, H] -> [M, H]."""
        if self.config.pre_norm:
            return self.feed_forward(self.layer_norm(x, at + "output/LayerNorm"), x, at)
        x = self.layer_norm(x, at + "attention/output/LayerNorm")  # [M, H]
        return self.layer_norm(self.feed_forward(x, x, at), at + "output/LayerNorm")

    def feed_forward(self, x: Tensor, residual: Tensor, at: str) -> Tensor:
        """residual + the two dense layers of x, an activation between them: [M, H] -> [M, H]."""
        # the activation in the compute dtype, so that the product takes it in
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
        """LayerNorm with the weights of that name, float32: [N, H]."""
        gamma, beta = self.weights[f"{name}/gamma"], self.weights.get(f"{name}/beta")
        epsilon = self.config.layer_norm_eps
        return layer_norm(x, gamma, beta, epsilon, is_fused=self.dense.has_fused_norm)
