"""BERT in plain numpy, float64, padded: slow and straight from the paper, to compare with.

Devlin et al. 2018 (and Vaswani et al. 2017 for the layer); it shares no line with the package.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: float64, any shape. numpy types its arithmetic as Any, and so do we.
Array = Any

_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: Array) -> Array:
    """x * P(X <= x), X standard normal (Hendrycks & Gimpel 2016)."""
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    """The approximation of the same paper."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": lambda x: np.maximum(x, 0.0),
}


class Reference:
    """The layers of one batch of id sequences, padded to `length`."""

    def __init__(
        self,
        config: Mapping[str, Any],
        variables: Mapping[str, npt.NDArray[Any]],
        ids: Sequence[Sequence[int]],
        length: int,
        *,
        segments: Sequence[Sequence[int]] | None = None,
        pooled: Sequence[Sequence[int]] | None = None,
        positions: bool = True,
    ) -> None:
        """Of each token: its segment (0 without), and 1 if it is pooled (all are without)."""
        self.config = config
        self.v = {name: array.astype(np.float64) for name, array in variables.items()}
        self.lengths = [len(row) for row in ids]
        padded = np.array([[*row, *[0] * (length - len(row))] for row in ids])
        self.mask = np.array([[1.0] * n + [0.0] * (length - n) for n in self.lengths])
        x = self.v["bert/embeddings/word_embeddings"][padded]
        if positions:
            x = x + self.v["bert/embeddings/position_embeddings"][:length]
        segments = segments or [[0] * n for n in self.lengths]
        self.pooled = pooled or [[1] * n for n in self.lengths]
        kinds = np.array([[*row, *[0] * (length - len(row))] for row in segments])
        x = x + self.v["bert/embeddings/token_type_embeddings"][kinds]
        x = self._norm(x, "bert/embeddings/LayerNorm")
        self.layers: list[Array] = []
        for index in range(config["num_hidden_layers"]):
            x = self._layer(x, f"bert/encoder/layer_{index}")
            self.layers.append(x)

    def rows(self, strategy: str, layers: Sequence[int]) -> Array:
        """Pooled rows."""
        if strategy in ("CLS_POOLED", "CLASSIFICATION", "REGRESSION"):
            pooled = np.tanh(self._linear(self.layers[-1][:, 0], "bert/pooler/dense"))
            return pooled if strategy == "CLS_POOLED" else self._head(pooled, strategy)
        x = np.concatenate([self.layers[layer] for layer in layers], axis=-1)
        if strategy == "NONE":
            for sequence, pooled in zip(x, self.pooled, strict=True):
                sequence[: len(pooled)] *= np.array(pooled)[:, None]
            return x * self.mask[:, :, None]
        rows = []
        for sequence, length, chosen in zip(x, self.lengths, self.pooled, strict=True):
            real = sequence[:length]
            taken = real[np.array(chosen) == 1]
            nothing = np.zeros(real.shape[1])
            mean = taken.mean(axis=0) if len(taken) else nothing
            most = taken.max(axis=0) if len(taken) else nothing
            rows.append(
                {
                    "REDUCE_MEAN": mean,
                    "REDUCE_MAX": most,
                    "REDUCE_MEAN_MAX": np.concatenate([mean, most]),
                    "CLS_TOKEN": real[0],
                    "FIRST_TOKEN": real[0],
                    "SEP_TOKEN": real[-1],
                    "LAST_TOKEN": real[-1],
                }[strategy]
            )
        return np.stack(rows)

    def _head(self, pooled: Array, strategy: str) -> Array:
        """`run_classifier.py` of google-research/bert; a logistic function where it regresses."""
        logits = pooled @ self.v["output_weights"].T + self.v["output_bias"]
        if strategy == "REGRESSION":
            return 1 / (1 + np.exp(-logits))
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return shares / shares.sum(axis=-1, keepdims=True)

    def _layer(self, x: Array, at: str) -> Array:
        attended = self._linear(self._attention(x, at), f"{at}/attention/output/dense")
        x = self._norm(x + attended, f"{at}/attention/output/LayerNorm")
        activation = ACTIVATIONS[self.config["hidden_act"]]
        inner = activation(self._linear(x, f"{at}/intermediate/dense"))
        fed = self._linear(inner, f"{at}/output/dense")
        return self._norm(x + fed, f"{at}/output/LayerNorm")

    def _attention(self, x: Array, at: str) -> Array:
        heads = self.config["num_attention_heads"]
        size = self.config["hidden_size"] // heads
        q, k, v = (
            self._linear(x, f"{at}/attention/self/{name}") for name in ("query", "key", "value")
        )
        out = np.zeros_like(x)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, :, part] @ k[:, :, part].transpose(0, 2, 1) / math.sqrt(size)
            scores = np.where(self.mask[:, None, :] == 1, scores, -np.inf)
            shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
            shares /= shares.sum(axis=-1, keepdims=True)
            out[:, :, part] = shares @ v[:, :, part]
        return out

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self.v[f"{name}/kernel"] + self.v[f"{name}/bias"]

    def _norm(self, x: Array, name: str) -> Array:
        epsilon = self.config.get("layer_norm_eps", 1e-12)
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        unit = (x - mean) / np.sqrt(variance + epsilon)
        return unit * self.v[f"{name}/gamma"] + self.v[f"{name}/beta"]
