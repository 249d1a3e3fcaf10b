"""The name of a model by its content: equal fingerprints give equal rows."""

import hashlib
import json
import unicodedata
from dataclasses import asdict

from bertq_bert.checkpoint import Weights
from bertq_bert.config import BertConfig
from bertq_bert.pooling import Pooling
from bertq_bert.tokenizing.google import Tokenizer

#: Raise it whenever the same inputs would give other rows than before.
_VERSION = 2


def fingerprint(
    weights: Weights,
    config: BertConfig,
    tokenizer: Tokenizer,
    pooling: Pooling,
    *,
    max_seq_len: int,
    fixed_length: bool,
    no_special_token: bool,
    dtype: str,
) -> str:
    """Hex SHA-256 over all that changes a row; the same for both layouts of one model.

    Python's Unicode version is part of it: it decides which characters are unassigned
    and dropped. ``max_batch_size`` is not, nor the name of the directory.
    """
    settings = {
        "version": _VERSION,
        "unicode": unicodedata.unidata_version,
        "config": asdict(config),
        "vocabulary": sorted(tokenizer.vocabulary.items(), key=lambda item: (item[1], item[0])),
        "cased": tokenizer.cased,
        "strip_accents": tokenizer.strip_accents,
        "split_cjk": tokenizer.split_cjk,
        "pooling": asdict(pooling),
        "max_seq_len": max_seq_len,
        "fixed_length": fixed_length,
        "no_special_token": no_special_token,
        "dtype": dtype,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(f"\n{name} {weights[name].shape}\n".encode())
        digest.update(weights[name].data)
    return digest.hexdigest()
