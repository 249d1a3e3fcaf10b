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
        #: matrices in the graph, by the address of the array: layers may share theirs
        self._matrices: dict[int, tuple[Array, Tensor]] = {}

    def dealt(self, array: Array | None, axis: int) -> list[Array | None]:
        """``array`` cut along an axis, one piece for each part; None for each if there is none."""
        return [None] * self.parts if array is None else list(np.split(array, self.parts, axis))

    def joined(self, inner: list[Tensor], name: str) -> Tensor:
        """The dense layer ``name`` of parts that lie side by side: P of [N, in / P] -> [N, out]."""
        products = [
            self.full(x, rows, bias)  # [N, out]
            for x, (rows, bias) in zip(inner, self.rows_of(name), strict=True)
        ]
        return functools.reduce(tf.add, products)

    @functools.cache  # noqa: B019 - it lives as long as the network is traced
    def rows_of(self, name: str) -> list[tuple[Array, Array | None]]:
        """Each part's rows of a kernel, [in / P, out]; the first one with the bias [out]."""
        kernel, bias = self.linear(name)
        pieces = np.split(kernel, self.parts, 0)
        return [(rows, None if part else bias) for part, rows in enumerate(pieces)]

    @functools.cache  # noqa: B019
    def columns_of(self, name: str) -> list[tuple[Array, Array | None]]:
        """Each part's columns of a kernel, [in, out / P], and of its bias [out / P]."""
        kernel, bias = self.linear(name)
        return list(zip(np.split(kernel, self.parts, 1), self.dealt(bias, 0), strict=True))

    def linear(self, name: str) -> tuple[Array, Array | None]:
        """Kernel [in, out] and bias [out] of a dense layer, which may have none."""
        return self.weights[f"{name}/kernel"], self.weights.get(f"{name}/bias")

    def matmul(self, x: Tensor, kernel: Array, bias: Array | None) -> Tensor:
        """x @ kernel + bias, if any, in the compute dtype: [N, in] -> [N, out]."""
        product = tf.matmul(tf.cast(x, self.dtype), self.matrix(kernel))
        return product if bias is None else tf.nn.bias_add(product, self.tensor(bias))

    def full(self, x: Tensor, kernel: Array, bias: Array | None) -> Tensor:
        """x @ kernel + bias, if any, in float32: [N, in] -> [N, out]."""
        return tf.cast(self.matmul(x, kernel, bias), tf.float32)

    def matrix(self, kernel: Array) -> Tensor:
        """``kernel`` in the graph, once."""
        known = self._matrices.get(id(kernel))
        if known is None:
            with contextlib.nullcontext() if self.constant else tf.init_scope():
                # with the array, whose address must not be given to another one
                known = self._matrices[id(kernel)] = kernel, self.tensor(kernel)
        return known[1]

    def tensor(self, array: Array) -> Tensor:
        """``array`` in the compute dtype."""
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype.as_numpy_dtype)
        if not np.isfinite(cast).all():
            raise UnknownDtype(
                f"dtype {self.dtype.name} cannot hold this model's weights: use bfloat16 or float32"
            )
        return tf.constant(cast)
