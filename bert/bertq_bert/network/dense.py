"""The dense layers of the network, in the compute dtype."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array, Weights
from bertq_bert.errors import UnknownDtype
from bertq_bert.network import onednn
from bertq_bert.network.activations import activate
from bertq_bert.network.token_layout import Tensor

#: A kernel and a bias for each part.
Pieces: TypeAlias = list[tuple[Array, Array | None]]


class Dense:
    """Products with the weights, as TensorFlow operations; letters in shapes as in ``network``.

    The matrices are tensors outside the graph, because TensorFlow stores a constant of the graph
    several times.
    """

    def __init__(self, weights: Weights, dtype: str, parts: int, *, is_fused: bool) -> None:
        """Prepare for products in the compute dtype ``dtype``.

        Args:
            weights: tensors by bertq's names.
            dtype: the compute dtype.
            parts: P, which divides the number of heads and the intermediate size.
            is_fused: whether to use the operations of ``onednn``.
        """
        self.weights = weights
        self.dtype = tf.as_dtype(dtype)
        self.parts = parts
        self.is_fused = is_fused
        #: whether the next graph to trace uses the fused LayerNorm
        self.has_fused_norm = False
        #: whether oneDNN stores packed copies of the kernels for the next graph to trace
        self.is_packed = False
        # Kept until the network is traced, because layers may share their weights.
        self._pieces: dict[str, Pieces] = {}
        self._matrices: dict[int, tuple[Array, Tensor]] = {}  # by the address of the array

    def cached(self, name: str, make: Callable[[], Pieces]) -> Pieces:
        """Return the pieces of a layer; the first call for its name creates them with ``make``."""
        if name not in self._pieces:
            self._pieces[name] = make()
        return self._pieces[name]

    def release(self) -> None:
        """Free the arrays after the graph is traced."""
        self._pieces.clear()
        self._matrices.clear()

    def split(self, array: Array | None, axis: int) -> list[Array | None]:
        """Split an array along an axis, into a piece for each part; the pieces of None are None."""
        return [None] * self.parts if array is None else list(np.split(array, self.parts, axis))

    def combine(self, x: Tensor, inner: list[Tensor], name: str) -> Tensor:
        """Add a dense layer of the concatenated parts to ``x``: float32 [N, out].

        Args:
            x: [N, out].
            inner: [N, in / P] for each part.
            name: name of the dense layer.
        """
        products = [
            self.matmul_float32(part, rows, bias)  # [N, out]
            for part, (rows, bias) in zip(inner, self.rows_of(name), strict=True)
        ]
        return tf.add_n([x, *products])

    def rows_of(self, name: str) -> Pieces:
        """Return each part's rows of a kernel, [in / P, out]; only the first has the bias [out]."""

        def make() -> Pieces:
            kernel, bias = self.linear(name)
            rows = np.split(kernel, self.parts, 0)
            return [(piece, None if part else bias) for part, piece in enumerate(rows)]

        return self.cached(name, make)

    def columns_of(self, name: str) -> Pieces:
        """Return each part's columns of a kernel, [in, out / P], and of its bias, [out / P]."""

        def make() -> Pieces:
            kernel, bias = self.linear(name)
            return list(zip(np.split(kernel, self.parts, 1), self.split(bias, 0), strict=True))

        return self.cached(name, make)

    def linear(self, name: str) -> tuple[Array, Array | None]:
        """Return the kernel [in, out] and the bias [out] of a dense layer; None without a bias."""
        return self.weights[f"{name}/kernel"], self.weights.get(f"{name}/bias")

    def matmul(
        self, x: Tensor, kernel: Array, bias: Array | None, activation: str = "identity"
    ) -> Tensor:
        """Return activation(x @ kernel + bias) in the compute dtype: [N, in] -> [N, out]."""
        x, matrix = tf.cast(x, self.dtype), self.matrix(kernel)
        if self.is_fused:
            offset = np.zeros(kernel.shape[1], np.float32) if bias is None else bias
            name = activation if activation in onednn.ACTIVATIONS else "identity"
            offset = self.tensor(offset)
            product = onednn.matmul(x, matrix, offset, name, packed=self.is_packed)
            return product if name == activation else activate(activation, product)
        product = tf.matmul(x, matrix)
        product = product if bias is None else tf.nn.bias_add(product, self.tensor(bias))
        return activate(activation, product)

    def matmul_float32(
        self, x: Tensor, kernel: Array, bias: Array | None, activation: str = "identity"
    ) -> Tensor:
        """Return the result of ``matmul`` as float32: [N, in] -> [N, out]."""
        return tf.cast(self.matmul(x, kernel, bias, activation), tf.float32)

    def matrix(self, kernel: Array) -> Tensor:
        """Return a kernel as a tensor outside the graph; the same tensor at each call."""
        entry = self._matrices.get(id(kernel))
        if entry is None:
            with tf.init_scope():
                # The entry keeps the array, so that no other array can get its address.
                entry = self._matrices[id(kernel)] = kernel, self.tensor(kernel)
        return entry[1]

    def tensor(self, array: Array) -> Tensor:
        """Return an array as a tensor of the compute dtype.

        Raises:
            UnknownDtype: a number is out of the range of the compute dtype.
        """
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype.as_numpy_dtype, copy=False)
        if not np.isfinite(cast).all():
            raise UnknownDtype(
                f"dtype {self.dtype.name} cannot hold this model's weights: use bfloat16 or float32"
            )
        return tf.constant(cast)
