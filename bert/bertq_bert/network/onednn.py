"""Fused operations of oneDNN, for which TensorFlow has no public functions.

TensorFlow's graph rewriting inserts these operations where it finds a pattern, and only for some
shapes and constants. This module creates them directly, without a pattern. So the weights may be
tensors outside the graph, which are in memory only once. The operations exist in TensorFlow 2.18 to
2.21 on x86. ``is_usable`` tries them, and where they fail, the network uses public operations.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bertq_bert.network.token_layout import Tensor

#: Activations that oneDNN can fuse with a product: bertq's name, and oneDNN's name.
ACTIVATIONS = {
    "gelu": "GeluExact",
    "gelu_new": "GeluApproximate",
    "gelu_pytorch_tanh": "GeluApproximate",
    "relu": "Relu",
    "tanh": "Tanh",
}

#: Dtypes for which oneDNN is faster on every CPU that has these operations.
_DTYPES = ("float32", "bfloat16")

#: Maximum difference between the results of these operations and of public ones in a trial.
_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}


def matmul(x: Tensor, kernel: Tensor, bias: Tensor, activation: str, *, packed: bool) -> Tensor:
    """Return activation(x @ kernel + bias): [N, in] -> [N, out].

    Args:
        x: [N, in].
        kernel: [in, out], the same at every call.
        bias: [out].
        activation: one of ``ACTIVATIONS``, or ``identity``.
        packed: whether oneDNN stores a copy of the kernel in its own memory format.
    """
    fused = ["BiasAdd"] if activation == "identity" else ["BiasAdd", ACTIVATIONS[activation]]
    product = _create(
        "_MklNativeFusedMatMul", [x, kernel, bias],
        T=x.dtype, transpose_a=False, transpose_b=False, is_filter_const=packed, num_args=1,
        fused_ops=fused, _kernel="MklNameChangeOp",
    )  # fmt: skip
    product.set_shape([x.shape[0], kernel.shape[1]])
    return product


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """Apply LayerNorm over the last axis: [N, H] -> [N, H]."""
    normed = _create("_MklLayerNorm", [x, gamma, beta], T=x.dtype, epsilon=epsilon)
    normed.set_shape(x.shape)
    return normed


def scores(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """Return q k^T + bias for q [B, A, S, D] and k [B, A, T, D]: [B, A, S, T].

    ``bias`` may have any shape that broadcasts to the result.
    """
    one = tf.constant(1, q.dtype)  # oneDNN fuses an addition only after a multiplication
    return _create(
        "_MklFusedBatchMatMulV2", [q, k, one, bias],
        T=q.dtype, adj_x=False, adj_y=True, num_args=2, fused_ops=["Mul", "Add"],
    )  # fmt: skip


@functools.cache
def is_usable(dtype: str) -> bool:
    """Return whether the operations work here, with the results of the public operations."""
    is_off = os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0"
    if is_off or dtype not in _DTYPES or tf.config.list_logical_devices("GPU"):
        return False
    try:
        with tf.init_scope():  # outside the graph that is being traced
            differences = tf.function(_try_all, autograph=False)(tf.as_dtype(dtype)).numpy()
    except (tf.errors.OpError, RuntimeError, TypeError, ValueError):
        return False  # an operation, attribute or instruction is missing
    return bool(np.all(differences <= _TOLERANCE[dtype]))


def _try_all(dtype: Any) -> Tensor:
    """Run each operation and its public equivalent; return the maximum difference of each."""
    numbers = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32)).astype(np.float32)
    x, kernel, other = (tf.cast(tf.constant(block), dtype) for block in numbers)
    bias = other[0]
    product = tf.nn.bias_add(tf.matmul(x, kernel), bias)
    pairs = [
        (matmul(x, kernel, bias, name, packed=packed), _ACTIVATE[name](product))
        for name in _ACTIVATE
        for packed in (False, True)
    ]
    q, k = (tf.reshape(tensor, [1, 2, 16, 32]) for tensor in (x, kernel))
    mask = tf.reshape(bias[:16], [1, 1, 1, 16])
    pairs.append((scores(q, k, mask), tf.matmul(q, k, transpose_b=True) + mask))
    wide = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(wide, [1], keepdims=True)
    unit = (wide - mean) / tf.sqrt(variance + 1e-5)
    ones, zeros = tf.ones([32]), tf.zeros([32])
    pairs.append((layer_norm(wide, ones, zeros, 1e-5), unit))
    return tf.stack([
        tf.reduce_max(tf.abs(tf.cast(own, tf.float32) - tf.cast(public, tf.float32)))
        for own, public in pairs
    ])  # fmt: skip


_ACTIVATE = {
    "identity": tf.identity,
    "gelu": functools.partial(tf.nn.gelu, approximate=False),
    "gelu_new": functools.partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
}


def _create(kind: str, inputs: Sequence[Tensor], **attributes: Any) -> Tensor:
    """Add an operation to the graph that is being traced, and return its only result."""
    attrs = {name: _attribute(value) for name, value in attributes.items()}
    graph = tf.compat.v1.get_default_graph()
    operation = graph.create_op(
        kind, list(inputs), [attributes["T"]], name=kind.lstrip("_"), attrs=attrs
    )
    return operation.outputs[0]


def _attribute(value: Any) -> Any:
    match value:
        case bool():
            return tf.compat.v1.AttrValue(b=value)
        case int():
            return tf.compat.v1.AttrValue(i=value)
        case float():
            return tf.compat.v1.AttrValue(f=value)
        case str():
            return tf.compat.v1.AttrValue(s=value.encode())
        case list():
            texts = [text.encode() for text in value]
            return tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue(s=texts))
    return tf.compat.v1.AttrValue(type=value.as_datatype_enum)
