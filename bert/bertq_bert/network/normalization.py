"""LayerNorm as TensorFlow operations."""

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array
from bertq_bert.network import onednn
from bertq_bert.network.token_layout import Tensor


def layer_norm(
    x: Tensor, gamma: Array, beta: Array | None, epsilon: float, *, is_fused: bool
) -> Tensor:
    """Apply LayerNorm over the last axis, in float32: [N, H] -> [N, H].

    It is (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    Args:
        x: the input.
        gamma, beta: the weights [H]; without ``beta``, nothing is added.
        epsilon: added to the variance.
        is_fused: whether to use the operation of ``onednn``.
    """
    if is_fused:
        offset = np.zeros_like(gamma) if beta is None else beta
        return onednn.layer_norm(x, tf.constant(gamma), tf.constant(offset), float(epsilon))
    centred = x - tf.reduce_mean(x, -1, keepdims=True)  # [N, H]
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)  # [N, 1]
    # In float64: in float32, rsqrt rounds the last elements of a vector differently, so that a row
    # would depend on its place in the batch.
    variance = tf.cast(variance, tf.float64) + np.float64(epsilon)  # [N, 1]
    unit = centred * tf.cast(tf.math.rsqrt(variance), tf.float32)  # [N, H]
    return unit * gamma if beta is None else unit * gamma + beta
