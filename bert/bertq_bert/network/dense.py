"""The dense layers of the network, in the compute dtype."""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array, Weights
from bertq_bert.errors import UnknownDtype
from bertq_bert.network.places import Tensor


class Dense:
    """Products with the weights, written into the graph; shapes as in ``network``.

    The matrices are constants of the graph, or tensors beside it, of which there is one copy.
    """

    def __init__(self, weights: Weights, dtype: str, constant: bool, parts: int) -> None:
        """``parts`` divides the number of heads and the intermediate size."""
        self.weights = weights
        self.dtype = tf.as_dtype(dtype)
        self.constant = constant
        self.parts = parts

    def dealt(self, array: Array, axis: int) -> list[Array]:
        """``array`` cut along an axis, one piece for each part."""
        return np.split(array, self.parts, axis)

    def joined(self, inner: list[Tensor], name: str) -> Tensor:
        """The dense layer ``name`` of parts that lie side by side: P of [N, in / P] -> [N, out]."""
        kernel, bias = self.linear(name)  # [in, out], [out]
        products = [
            self.full(x, rows, None if part else bias)  # [N, out]
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

    def full(self, x: Tensor, kernel: Array, bias: Array | None) -> Tensor:
        """x @ kernel + bias, if any, in float32: [N, in] -> [N, out]."""
        return tf.cast(self.matmul(x, kernel, bias), tf.float32)

    def tensor(self, array: Array) -> Tensor:
        """``array`` in the compute dtype."""
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype.as_numpy_dtype)
        if not np.isfinite(cast).all():
            raise UnknownDtype(
                f"dtype {self.dtype.name} cannot hold this model's weights: use bfloat16 or float32"
            )
        return tf.constant(cast)
