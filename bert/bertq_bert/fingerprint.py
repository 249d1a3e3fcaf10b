"""The fingerprint of a model: models with equal fingerprints compute equal rows."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from bertq_bert.checkpoint import Array, Weights
from bertq_bert.config import NetworkConfig
from bertq_bert.pooling import Pooling
from bertq_bert.tokenizing.base import Tokenizer

#: Increase it with each change after which the same model computes other rows.
_VERSION = 3


def fingerprint(
    weights: Weights,
    config: NetworkConfig,
    tokenizer: Tokenizer,
    pooling: Pooling,
    *,
    ranges: Array | None,
    **settings: Any,
) -> str:
    """Return the SHA-256, in hexadecimal, of everything that changes a row.

    It is the same for all layouts of a model. ``max_batch_size`` and the name of the directory are
    not a part of it.

    Args:
        weights: the tensors by bertq's names.
        config: the hyper-parameters of the network.
        tokenizer: the tokenizer.
        pooling: the pooling.
        ranges: the ranges of int8 rows; None without ranges.
        settings: other settings that change a row, as JSON values.
    """
    settings = settings | {
        "version": _VERSION,
        "config": asdict(config),
        "tokenizer": tokenizer.identity(),
        "pooling": asdict(pooling),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    arrays = weights if ranges is None else weights | {"int8_ranges": ranges}
    for name in sorted(arrays):
        digest.update(f"\n{name} {arrays[name].shape}\n".encode())
        digest.update(arrays[name].data)
    return digest.hexdigest()
