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
    """Products with the weights, written into the graph; shapes as in ``network``.

    The matrices are tensors outside of the graph: TensorFlow would hold a constant several times.
    """

    def __init__(self, weights: Weights, dtype: str, parts: int, *, is_fused: bool) -> None:
        """``parts`` divides the number of heads and the intermediate size.

        With ``is_fused``, the operations are those of ``onednn``.
        """
        self.weights = weights
        self.dtype = tf.as_dtype(dtype)
        self.parts = parts
        self.is_fused = is_fused
        #: whether the graph that is traced has the fused LayerNorm
        self.has_fused_norm = False
        # layers may share their weights: both are kept while the network is traced
        self._pieces: dict[str, Pieces] = {}
        self._matrices: dict[int, tuple[Array, Tensor]] = {}  # by the address of the array

    def cached(self, name: str, make: Callable[[], Pieces]) -> Pieces:
        """Return what ``make`` makes for a name; the same arrays each time."""
        if name not in self._pieces:
            self._pieces[name] = make()
        return self._pieces[name]

    def release(self) -> None:
        """Forget the arrays, once the graph has them."""
        self._pieces.clear()
        self._matrices.clear()

    def split(self, array: Array | None, axis: int) -> list[Array | None]:
        """Split ``array`` along an axis, a piece for each part; None for each without an array."""
        return [None] * self.parts if array is None else list(np.split(array, self.parts, axis))

    def combine(self, x: Tensor, inner: list[Tensor], name: str) -> Tensor:
        """x plus the dense layer ``name`` of P parts that lie side by side: float32 [N, out].

        x is [N, out], each part [N, in / P].
        """
        products = [
            self.matmul_float32(part, rows, bias)  # [N, out]
            for part, (rows, bias) in zip(inner, self.rows_of(name), strict=True)
        ]
        return tf.add_n([x, *products])

    def rows_of(self, name: str) -> Pieces:
        """Each part's rows of a kernel, [in / P, out]; the first one with the bias [out]."""

        def make() -> Pieces:
            kernel, bias = self.linear(name)
            rows = np.split(kernel, self.parts, 0)
            return [(piece, None if part else bias) for part, piece in enumerate(rows)]

        return self.cached(name, make)

    def columns_of(self, name: str) -> Pieces:
        """Each part's columns of a kernel, [in, out / P], and of its bias [out / P]."""

        def make() -> Pieces:
            kernel, bias = self.linear(name)
            return list(zip(np.split(kernel, self.parts, 1), self.split(bias, 0), strict=True))

        return self.cached(name, make)

    def linear(self, name: str) -> tuple[Array, Array | None]:
        """Kernel [in, out] and bias [out] of a dense layer, which may have none."""
        return self.weights[f"{name}/kernel"], self.weights.get(f"{name}/bias")

    def matmul(
        self, x: Tensor, kernel: Array, bias: Array | None, activation: str = "identity"
    ) -> Tensor:
        """activation(x @ kernel + bias), in the compute dtype: [N, in] -> [N, out]."""
        x, matrix = tf.cast(x, self.dtype), self.matrix(kernel)
        if self.is_fused:
            offset = np.zeros(kernel.shape[1], np.float32) if bias is None else bias
            name = activation if activation in onednn.ACTIVATIONS else "identity"
            # packing gains nothing in float32
            packed = self.dtype != tf.float32
            product = onednn.matmul(x, matrix, self.tensor(offset), name, packed=packed)
            return product if name == activation else activate(activation, product)
        product = tf.matmul(x, matrix)
        product = product if bias is None else tf.nn.bias_add(product, self.tensor(bias))
        return activate(activation, product)

    def matmul_float32(
        self, x: Tensor, kernel: Array, bias: Array | None, activation: str = "identity"
    ) -> Tensor:
        """The same in float32."""
        return tf.cast(self.matmul(x, kernel, bias, activation), tf.float32)

    def matrix(self, kernel: Array) -> Tensor:
        """``kernel`` outside of the graph, once."""
        entry = self._matrices.get(id(kernel))
        if entry is None:
            with tf.init_scope():
                # with the array: while it exists, no other array can have its address
                entry = self._matrices[id(kernel)] = kernel, self.tensor(kernel)
        return entry[1]

    def tensor(self, array: Array) -> Tensor:
        """``array`` in the compute dtype."""
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype.as_numpy_dtype, copy=False)
        if not np.isfinite(cast).all():
            raise UnknownDtype(
                f"dtype {self.dtype.name} cannot hold this model's weights: use bfloat16 or float32"
            )
        return tf.constant(cast)
