"""The name of a model by its content: equal fingerprints give equal rows."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from bertq_bert.checkpoint import Array, Weights
from bertq_bert.config import NetworkConfig
from bertq_bert.pooling import Pooling
from bertq_bert.tokenizing.base import Tokenizer

#: Raise it whenever the same inputs would give other rows than before.
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
    """Hex SHA-256 over all that changes a row; the same for all layouts of one model.

    ``max_batch_size`` is not part of it, nor the name of the directory.
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
