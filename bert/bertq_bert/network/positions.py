"""Positions in attention: rotated queries and keys, relative biases, windows.

The letters in shapes are those of ``network``, and S is the number of queries of a row, which are
all of its T slots or some of them.
"""

import functools
import math

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bertq_bert.checkpoint import Array
from bertq_bert.config import Rotary
from bertq_bert.network.token_layout import MASKED, Tensor, TokenLayout

#: Distance from which MPNet uses the last bucket (T5's rule, Raffel et al. 2020).
_MAX_DISTANCE = 128


class Positions:
    """The positions of one batch, for the heads of one part, in layers with the same settings."""

    def __init__(
        self,
        layout: TokenLayout,
        longest: int,
        *,
        rotary: Rotary | None,
        window: int | None,
        relative: Array | None,
        size: int,
    ) -> None:
        """Create the tables for sequences of up to ``longest`` tokens.

        Args:
            layout: the batch.
            longest: maximum tokens of a sequence.
            rotary: the rotation of queries and keys; None for none.
            window: maximum distance of tokens to which a token attends; None for no maximum.
            relative: biases of the buckets of distances [buckets, A / P]; None for none.
            size: D.
        """
        self.layout = layout
        self.longest = longest
        self.window = window
        self.rotations: Tensor = None
        self.relative: Tensor = None
        with tf.init_scope():  # one copy, outside the graph
            if rotary is not None:
                self.rotations = tf.constant(rotation(rotary, size, longest))  # [longest, D / 2]
            if relative is not None:
                self.relative = tf.constant(by_distance(relative, longest))  # [A, 2 longest - 1]
        self.all_rotations = (
            None if rotary is None else self.rotations[: layout.longest]
        )  # [T, D / 2]

    @functools.cached_property
    def bias(self) -> Tensor:
        """The bias to add to the scores of all queries: [B or 1, A / P or 1, T or 1, T]."""
        return self.bias_of(self.layout.columns)

    def bias_of(self, queries: Tensor) -> Tensor:
        """Return the bias to add to the scores of some queries.

        Args:
            queries: the positions of the queries, [S] for all rows or [B, 1].

        Returns:
            The bias [B or 1, A / P or 1, S or 1, T].
        """
        bias = self.layout.bias  # [B, 1, 1, T]
        if self.window is None and self.relative is None:
            return bias
        distance = self.layout.columns - queries[..., None]  # [S, T] or [B, 1, T]
        if self.window is not None:
            far = tf.where(tf.abs(distance) > self.window, MASKED, 0.0)
            bias += far[:, None] if far.shape.rank == 3 else far[None, None]
        if self.relative is not None:
            near = tf.clip_by_value(distance, 1 - self.longest, self.longest - 1)
            values = tf.gather(self.relative, near + self.longest - 1, axis=1)  # [A / P, ...]
            bias += tf.transpose(values, [1, 0, 2, 3]) if values.shape.rank == 4 else values[None]
        return bias

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate the vectors of all slots by their positions: [B, A / P, T, D]."""
        if self.rotations is None:
            return x
        return rotate_pairs(x, self.all_rotations, can_bitcast=not self.layout.is_static)

    def rotate_at(self, x: Tensor, position: Tensor) -> Tensor:
        """Rotate one vector of each row by its position [B]: [B, A / P, 1, D]."""
        if self.rotations is None:
            return x
        return rotate_pairs(
            x,
            tf.gather(self.rotations, position)[:, None, None],
            can_bitcast=not self.layout.is_static,
        )


def rotate_pairs(x: Tensor, rotations: Tensor, *, can_bitcast: bool = True) -> Tensor:
    """Multiply pairs of adjacent numbers, as complex numbers, by rotations.

    Args:
        x: [..., D].
        rotations: complex numbers [..., D / 2].
        can_bitcast: whether to reinterpret two numbers as a complex number, which XLA cannot do.

    Returns:
        The rotated vectors [..., D].
    """
    shape = tf.shape(x)
    pairs = tf.reshape(tf.cast(x, tf.float32), tf.concat([shape[:-1], [shape[-1] // 2, 2]], 0))
    if not can_bitcast:
        product = tf.complex(pairs[..., 0], pairs[..., 1]) * rotations
        rotated = tf.stack([tf.math.real(product), tf.math.imag(product)], -1)
        return tf.cast(tf.reshape(rotated, shape), x.dtype)
    product = tf.bitcast(pairs, tf.complex64) * rotations
    return tf.cast(tf.reshape(tf.bitcast(product, tf.float32), shape), x.dtype)


def order_pairs(kernel: Array, size: int) -> Array:
    """Reorder the columns of queries or keys, so that each rotated pair is adjacent.

    A model rotates the numbers i and i + D / 2 of a head together. Products of queries and keys do
    not depend on the order of the numbers.

    Args:
        kernel: a kernel or a bias [..., A * D].
        size: D.
    """
    order = np.arange(size).reshape(2, -1).T.reshape(-1)
    heads = kernel.reshape(*kernel.shape[:-1], -1, size)
    return np.ascontiguousarray(heads[..., order]).reshape(kernel.shape)


def rotation(rotary: Rotary, size: int, longest: int) -> npt.NDArray[np.complex64]:
    """Compute the rotation of each pair of numbers at each position: [longest, size / 2].

    The formula is equation 34 of Su et al. 2021. With an NTK factor f, the base is multiplied by f,
    and the frequencies are divided by f^(2 / size) (https://kexue.fm/archives/9706, equation 6).
    """
    steps = np.arange(0, size, 2) / size
    frequencies = (rotary.theta * rotary.ntk_factor) ** -steps
    frequencies /= rotary.ntk_factor ** (2 / size)
    angles = np.outer(np.arange(longest) / rotary.position_divisor, frequencies)
    rotations: npt.NDArray[np.complex64] = np.exp(1j * angles).astype(np.complex64)
    return rotations


def by_distance(table: Array, longest: int) -> Array:
    """Compute MPNet's bias for each distance, the position of the key minus that of the query.

    Half of the buckets are for keys after the query. In each half, one half of the buckets has one
    distance each; the ranges of the others grow logarithmically up to a distance of 128 (Raffel et
    al. 2020, T5).

    Args:
        table: the biases of the buckets [buckets, A].
        longest: maximum tokens of a sequence.

    Returns:
        The biases [A, 2 * longest - 1], for the distances from 1 - longest.
    """
    half = len(table) // 2
    exact = half // 2
    distance = np.arange(1 - longest, longest)
    size = np.abs(distance)
    growth = np.log(np.maximum(size, 1).astype(np.float32) / exact)
    large = exact + (growth / math.log(_MAX_DISTANCE / exact) * (half - exact)).astype(np.int64)
    bucket = np.where(size < exact, size, np.minimum(large, half - 1))
    return np.ascontiguousarray(table[bucket + np.where(distance > 0, half, 0)].T)
