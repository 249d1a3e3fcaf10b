"""Activations by their names in ``config`` and ``pooling``."""

import tensorflow as tf

from bertq_bert.network.token_layout import Tensor


def activate(name: str, x: Tensor) -> Tensor:
    """Apply an activation to a tensor of any shape."""
    match name:
        case "gelu":
            return tf.nn.gelu(x, approximate=False)
        case "gelu_new" | "gelu_pytorch_tanh":
            return tf.nn.gelu(x, approximate=True)
        case "relu":
            return tf.nn.relu(x)
        case "sigmoid":
            return tf.sigmoid(x)
        case "silu":
            return tf.nn.silu(x)
        case "softmax":
            return tf.nn.softmax(x)
        case "tanh":
            return tf.tanh(x)
        case "identity":
            return x
    raise ValueError(f"activation {name!r} is unknown")
