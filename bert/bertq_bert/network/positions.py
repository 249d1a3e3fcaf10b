"""What attention knows of positions: rotated queries and keys, biases by distance, windows.

Shapes as in ``network``; S queries of a row, which are all of its T slots or a few of them.
"""

import math

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array
from bertq_bert.config import NetworkConfig, Rotary
from bertq_bert.network.places import MASKED, Places, Tensor

#: Distance from which on MPNet's buckets are all the last one (T5's rule, Raffel et al. 2020).
_FARTHEST = 128


class Positions:
    """The positions of one layer's attention, of the heads of one part."""

    def __init__(self, config: NetworkConfig, index: int, relative: Array | None) -> None:
        """Plan layer ``index``; ``relative`` [buckets, A / P] are its relative biases, if any."""
        self.window = config.window[index] if config.window else None
        self.longest = config.max_position_embeddings
        self.tables: tuple[Array, Array] | None = None
        if config.rotary:
            self.tables = rotation(config.rotary[index], config.head_size, self.longest)
        self.relative: Array | None = None
        if relative is not None:
            self.relative = by_distance(relative, self.longest)

    def bias(self, places: Places, queries: Tensor) -> Tensor:
        """What is added to scores: [B or 1, A / P or 1, S, T] for queries [S] or [B, S]."""
        bias = places.bias  # [B, 1, 1, T]
        if self.window is None and self.relative is None:
            return bias
        distance = places.columns - queries[..., None]  # [S, T] or [B, S, T]
        if self.window is not None:
            far = tf.where(tf.abs(distance) > self.window, MASKED, 0.0)
            bias += far[:, None] if far.shape.rank == 3 else far[None, None]
        if self.relative is not None:
            near = tf.clip_by_value(distance, 1 - self.longest, self.longest - 1)
            values = tf.gather(tf.constant(self.relative), near + self.longest - 1, axis=1)
            bias += tf.transpose(values, [1, 0, 2, 3]) if values.shape.rank == 4 else values[None]
        return bias

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Turn vectors by their positions: x [B, A, S, D], positions [S] or [B, S]."""
        if self.tables is None:
            return x
        cos, sin = (tf.gather(tf.constant(table), positions) for table in self.tables)
        if positions.shape.rank == 2:
            cos, sin = cos[:, None], sin[:, None]  # [B, 1, S, D / 2]
        first, second = tf.split(tf.cast(x, tf.float32), 2, -1)  # [B, A, S, D / 2]
        turned = tf.concat([first * cos - second * sin, second * cos + first * sin], -1)
        return tf.cast(turned, x.dtype)


def rotation(rotary: Rotary, size: int, longest: int) -> tuple[Array, Array]:
    """Cosines and sines of the angles of each position: [longest, size / 2] each.

    Source: Su et al. 2021, equation 34. With an NTK factor f the base is multiplied by f and the
    frequencies are divided by f^(2 / size) (https://kexue.fm/archives/9706, equation 6).
    """
    steps = np.arange(0, size, 2) / size
    frequencies = (rotary.theta * rotary.ntk_factor) ** -steps
    frequencies /= rotary.ntk_factor ** (2 / size)
    angles = np.outer(np.arange(longest) / rotary.position_divisor, frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def by_distance(table: Array, longest: int) -> Array:
    """MPNet's biases by distance: [buckets, A] -> [A, 2 * longest - 1], key minus query.

    Half of the buckets are for keys behind the query. Of each half, half are exact, and the others
    grow logarithmically up to a distance of 128 (Raffel et al. 2020, T5).
    """
    half = len(table) // 2
    exact = half // 2
    distance = np.arange(1 - longest, longest)
    size = np.abs(distance)
    growth = np.log(np.maximum(size, 1).astype(np.float32) / exact)
    large = exact + (growth / math.log(_FARTHEST / exact) * (half - exact)).astype(np.int64)
    bucket = np.where(size < exact, size, np.minimum(large, half - 1))
    return np.ascontiguousarray(table[bucket + np.where(distance > 0, half, 0)].T)
