"""LayerNorm, written into the graph."""

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array
from bertq_bert.network import onednn
from bertq_bert.network.token_layout import Tensor


def layer_norm(
    x: Tensor, gamma: Array, beta: Array | None, epsilon: float, *, is_fused: bool
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * gamma + beta over the last axis, float32: [N, H]."""
    if is_fused:
        offset = np.zeros_like(gamma) if beta is None else beta
        return onednn.layer_norm(x, tf.constant(gamma), tf.constant(offset), float(epsilon))
    centred = x - tf.reduce_mean(x, -1, keepdims=True)  # [N, H]
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)  # [N, 1]
    # float64: the float32 rsqrt rounds a vector's last elements otherwise than the others,
    # so a row would change with its place in the batch
    variance = tf.cast(variance, tf.float64) + np.float64(epsilon)  # [N, 1]
    unit = centred * tf.cast(tf.math.rsqrt(variance), tf.float32)  # [N, H]
    return unit * gamma if beta is None else unit * gamma + beta
