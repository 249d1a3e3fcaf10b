"""Texts as the libraries take them that pad: sorted by length, in batches of one size."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = Sequence[list[int]]
Block = npt.NDArray[np.int64]


def open_tokenizer(model_dir: Path, max_seq_len: int) -> Any:
    """Return the model's tokenizer, which truncates and does not pad."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_seq_len)
    return tokenizer


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def split(ids: Ids, size: int) -> Iterator[npt.NDArray[np.intp]]:
    """Return the numbers of the texts of each batch, the shortest texts first."""
    order = np.argsort([len(row) for row in ids], kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pad(ids: Ids) -> dict[str, Block]:
    """Return ids and mask of a batch, [B, T] each, as the exported network takes them."""
    block = np.zeros((len(ids), max(map(len, ids))), np.int64)
    mask = np.zeros_like(block)
    for row, tokens in enumerate(ids):
        block[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": block, "attention_mask": mask}
