"""Chooses the tokenizer of a model: Google's, or that of the model's directory."""

import json
from pathlib import Path
from typing import Any

from bertq_bert.config import NetworkConfig
from bertq_bert.directory.description import Description
from bertq_bert.directory.layout import Layout, ModelFiles
from bertq_bert.tokenizing.base import Tokenizer
from bertq_bert.tokenizing.google import load_tokenizer
from bertq_bert.tokenizing.shipped import load_shipped


def load_model_tokenizer(
    files: ModelFiles, description: Description | None, config: NetworkConfig, cased: bool | None
) -> Tokenizer:
    """Load the tokenizer of a directory.

    Args:
        files: the files of the model.
        description: the settings of the directory; None selects Google's tokenizer for BERT models
            with a WordPiece vocabulary.
        config: the hyper-parameters of the network.
        cased: whether to keep upper case; None: as the files define it.
    """
    directory, vocab_size = files.directory, config.vocab_size
    if description is not None:
        return load_shipped(directory, lower=description.lower, cased=cased, embeddings=vocab_size)
    if config.family == "BERT":
        # A damaged WordPiece vocabulary is an error. Another kind of tokenizer is used as it is.
        if files.layout is Layout.GOOGLE or (directory / "vocab.txt").is_file():
            return load_tokenizer(directory, cased=cased, embeddings=vocab_size)
        if _is_wordpiece(directory / "tokenizer.json"):
            return load_tokenizer(directory, cased=cased, embeddings=vocab_size)
    return load_shipped(directory, cased=cased, embeddings=vocab_size)


def _is_wordpiece(path: Path) -> bool:
    """Return whether a ``tokenizer.json`` has a WordPiece model; true if it cannot be read."""
    try:
        model: Any = json.loads(path.read_text(encoding="utf-8"))["model"]["type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # the loader reports the error
    return bool(model == "WordPiece")
