"""The layers after the encoder: pooler, labels, masked-LM head, sentence-transformers modules.

The letters in shapes are those of ``network``, and X is the size of a pooled row. The number of
rows of each product is a multiple of ``min_tokens``, because oneDNN compiles code for each number
of rows, and uses another algorithm for a few rows.
"""

import tensorflow as tf

from bertq_bert.checkpoint import Weights
from bertq_bert.config import NetworkConfig
from bertq_bert.network.activations import activate
from bertq_bert.network.dense import Dense
from bertq_bert.network.normalization import layer_norm
from bertq_bert.network.token_layout import Tensor, TokenLayout
from bertq_bert.pooling import Pooling, Step

#: The epsilon of torch's LayerNorm.
_MODULE_EPSILON = 1e-5


class Heads:
    """The layers after the encoder."""

    def __init__(
        self,
        config: NetworkConfig,
        weights: Weights,
        pooling: Pooling,
        dense: Dense,
        min_tokens: int,
    ) -> None:
        self.config = config
        self.weights = weights
        self.pooling = pooling
        self.dense = dense
        self.min_tokens = min_tokens

    def rows(self, x: Tensor) -> Tensor:
        """Apply the layers to pooled rows: [B, X] -> [B, dim]; token vectors are not changed."""
        if not self.pooling.needs_pooler and not self.pooling.steps:
            return x
        rows = tf.shape(x)[0]
        x = tf.gather(x, self.pad_indices(tf.range(rows)))  # [M, X]
        if self.pooling.needs_pooler:
            x = self.pooled(x)  # [M, H]
        if self.pooling.has_labels:
            x = self.labels(x)  # [M, labels]
        for step in self.pooling.steps:
            x = self.step(x, step)
        return x[:rows]

    def pooled(self, x: Tensor) -> Tensor:
        """Apply the pooler, a dense layer and its activation: [M, H] -> [M, H]."""
        # In bert-as-service, it is always tanh; a classifier has the activation of its family.
        act = self.config.head_act if self.pooling.has_labels else "tanh"
        x = activate(act, self.dense.matmul_float32(x, *self.dense.linear("pooler/dense")))
        if self.pooling.has_labels and self.config.head_norm:
            x = self._norm(x, "pooler/LayerNorm", self.config.layer_norm_eps)
        return x

    def labels(self, x: Tensor) -> Tensor:
        """Compute the labels of a fine-tuned classifier: [M, H] -> [M, labels], in float32.

        The activation is that of the directory. Otherwise it is softmax for a classification, as
        in ``run_classifier.py`` of google-research/bert, and the logistic function for a
        regression, as in bert-as-service.
        """
        kernel = tf.constant(self.weights["output_weights"].T)  # [H, labels]
        logits = tf.matmul(x, kernel) + self.weights["output_bias"]
        return activate(self.pooling.activation, logits)

    def step(self, x: Tensor, step: Step) -> Tensor:
        """Apply a module of sentence-transformers after the pooling: [M, X] -> [M, Y]."""
        at = f"modules/{step.number}"
        if step.kind == "normalize":
            return tf.math.l2_normalize(x, -1, epsilon=1e-24)
        if step.kind == "layer_norm":
            return self._norm(x, at, _MODULE_EPSILON)
        return activate(step.activation, self.dense.matmul_float32(x, *self.dense.linear(at)))

    def vocabulary(self, x: Tensor, words: Tensor, layout: TokenLayout) -> Tensor:
        """Compute SPLADE's weight for each token of the vocabulary: [N, H] -> [B, V].

        It is the maximum or the sum, over the tokens of a row, of log(1 + relu(logits)) (Formal et
        al. 2021). With ``log1p_relu``, the logarithm is applied twice (Shen et al. 2025).

        Args:
            x: the token vectors.
            words: the table of word embeddings [V, E], which is the decoder if there is no other.
            layout: the places of the tokens.
        """
        x = self.dense.matmul_float32(x, *self.dense.linear("predictions/dense"))  # [N, E]
        x = activate(self.config.masked_lm_act, x)
        x = self._norm(x, "predictions/LayerNorm", self.config.layer_norm_eps)
        decoder = self.weights.get("predictions/decoder")  # [V, E], or none
        table = words if decoder is None else tf.constant(decoder)
        logits = tf.matmul(x, table, transpose_b=True) + self.weights["predictions/bias"]  # [N, V]
        weights = tf.math.log1p(tf.nn.relu(logits))
        if self.pooling.activation == "log1p_relu":
            weights = tf.math.log1p(weights)
        if self.pooling.modes == ("splade_max",):
            return layout.max(weights)
        return layout.sum(weights)

    def pad_indices(self, indices: Tensor) -> Tensor:
        """Pad indices with zeros to a multiple M of ``min_tokens``: [B] -> [M], B <= M."""
        return tf.pad(indices, [[0, -tf.size(indices) % self.min_tokens]])

    def _norm(self, x: Tensor, name: str, epsilon: float) -> Tensor:
        gamma, beta = self.weights[f"{name}/gamma"], self.weights.get(f"{name}/beta")
        return layer_norm(x, gamma, beta, epsilon, is_fused=self.dense.has_fused_norm)
