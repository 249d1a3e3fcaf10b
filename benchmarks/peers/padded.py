"""A plain BERT in TensorFlow: every row padded to max_seq_len, weights as variables.

What a straightforward port of google-research/bert to TensorFlow 2 does, in batches of 256 as the
sentences come. Shapes: B rows, T = max_seq_len, H hidden size, A heads of D each.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from benchmarks.peers.peer_main import Encode, Rows, Settings
from bertq.protocol.queues import Device
from bertq_bert import Source, read_source
from bertq_bert.config import NetworkConfig
from bertq_workers.startup import devices

NAME = "TensorFlow, padded"
PACKAGES = ("tensorflow", "tokenizers")
VARIANTS = ("float32",)

Tensor: TypeAlias = Any

_BATCH = 256


def load(settings: Settings, variants: Sequence[str]) -> dict[str, Encode]:
    """Trace the network."""
    devices.pin(Device("cpu", 0), os.environ)
    devices.configure(settings.threads)
    source = read_source(
        settings.model_dir,
        max_seq_len=settings.max_seq_len,
        pooling_strategy="REDUCE_MEAN",
        pooling_layers=(-1,),
    )
    function = network(source.config, source.weights, settings.max_seq_len)
    return {variant: partial(_encode, source, function) for variant in variants}


def network(config: NetworkConfig, weights: Mapping[str, Any], length: int) -> Any:
    """Return a traced function of ids [B, T] and their numbers [B] to rows [B, H]."""
    import tensorflow as tf

    held = {name: tf.Variable(value, trainable=False) for name, value in weights.items()}
    heads, size = config.num_attention_heads, config.head_size

    def dense(x: Tensor, name: str) -> Tensor:
        return tf.nn.bias_add(tf.matmul(x, held[f"{name}/kernel"]), held[f"{name}/bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        unit = (x - mean) * tf.math.rsqrt(variance + config.layer_norm_eps)
        return unit * held[f"{name}/gamma"] + held[f"{name}/beta"]

    def split(x: Tensor) -> Tensor:  # [B * T, H] -> [B, A, T, D]
        return tf.transpose(tf.reshape(x, [-1, length, heads, size]), [0, 2, 1, 3])

    def attention(x: Tensor, bias: Tensor, at: str) -> Tensor:
        q, k, v = (split(dense(x, f"{at}self/{name}")) for name in ("query", "key", "value"))
        shares = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / np.sqrt(size) + bias)
        context = tf.transpose(tf.matmul(shares, v), [0, 2, 1, 3])  # [B, T, A, D]
        return dense(tf.reshape(context, [-1, heads * size]), f"{at}output/dense")

    def activation(x: Tensor) -> Tensor:
        if config.hidden_act == "relu":
            return tf.nn.relu(x)
        return tf.nn.gelu(x, approximate=config.hidden_act != "gelu")

    def rows(ids: Tensor, lengths: Tensor) -> Tensor:
        mask = tf.sequence_mask(lengths, length, dtype=tf.float32)  # [B, T]
        bias = (1.0 - mask)[:, None, None, :] * -1e9
        x = tf.gather(held["embeddings/word_embeddings"], ids)
        x += held["embeddings/position_embeddings"][:length]
        x += held["embeddings/token_type_embeddings"][0]
        x = tf.reshape(norm(x, "embeddings/LayerNorm"), [-1, config.hidden_size])
        for index in range(config.num_hidden_layers):
            at = f"encoder/layer_{index}/"
            x = norm(x + attention(x, bias, f"{at}attention/"), f"{at}attention/output/LayerNorm")
            inner = activation(dense(x, f"{at}intermediate/dense"))
            x = norm(x + dense(inner, f"{at}output/dense"), f"{at}output/LayerNorm")
        x = tf.reshape(x, [-1, length, config.hidden_size]) * mask[:, :, None]
        return tf.reduce_sum(x, 1) / tf.reduce_sum(mask, 1, keepdims=True)

    block, vector = tf.TensorSpec([None, length], tf.int32), tf.TensorSpec([None], tf.int32)
    return tf.function(rows, input_signature=[block, vector], autograph=False)


def _encode(source: Source, function: Any, texts: Sequence[str]) -> Rows:
    ids = source.model.tokenize(texts).ids
    blocks = []
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        block = np.zeros((len(batch), source.model.max_seq_len), np.int32)
        for row, tokens in enumerate(batch):
            block[row, : len(tokens)] = tokens
        lengths = np.fromiter(map(len, batch), np.int32, len(batch))
        blocks.append(function(block, lengths).numpy())
    return np.asarray(np.concatenate(blocks), np.float32)
