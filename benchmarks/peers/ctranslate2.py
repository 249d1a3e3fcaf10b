"""CTranslate2 on the CPU, float32 and int8.

Many sentences are length-sorted, in batches of 64, each on one core; up to 16 sentences are one
batch on all cores. The mean of the last layer is taken by NumPy.
"""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.padding import open_tokenizer, split, tokenize
from benchmarks.peers.peer_main import Encode, Rows, Settings

NAME = "CTranslate2"
PACKAGES = ("ctranslate2", "transformers", "torch", "tokenizers")
VARIANTS = ("float32", "int8")

#: Rows of a batch; of 8 to 64 the fastest in float32.
_BATCH_ROWS = 64
_FEW_ROWS = 16


def load(settings: Settings, variants: Sequence[str]) -> dict[str, Encode]:
    """Convert the model, and open it for each dtype and number of sentences."""
    import ctranslate2

    tokenizer = open_tokenizer(settings.model_dir, settings.max_seq_len)
    loaded: dict[str, Encode] = {}
    with tempfile.TemporaryDirectory(prefix="bertq-ctranslate2-") as scratch:
        path = str(Path(scratch) / "model")
        ctranslate2.converters.TransformersConverter(str(settings.model_dir)).convert(path)
        for dtype in variants:
            bulk, few = (
                ctranslate2.Encoder(
                    path, compute_type=dtype, inter_threads=batches, intra_threads=cores
                )
                for batches, cores in ((settings.threads, 1), (1, settings.threads))
            )
            pool = ThreadPoolExecutor(settings.threads)
            loaded[dtype] = partial(_encode, tokenizer, pool, bulk, few)
    return loaded


def _encode(
    tokenizer: Any, pool: ThreadPoolExecutor, bulk: Any, few: Any, texts: Sequence[str]
) -> Rows:
    ids = tokenize(tokenizer, texts)
    if len(ids) <= _FEW_ROWS:
        return _compute(few, ids)
    batches = list(split(ids, _BATCH_ROWS))

    def compute(batch: npt.NDArray[np.intp]) -> Rows:
        return _compute(bulk, [ids[row] for row in batch])

    blocks = list(pool.map(compute, batches))
    rows = np.empty((len(ids), blocks[0].shape[1]), np.float32)
    rows[np.concatenate(batches)] = np.concatenate(blocks)
    return rows


def _compute(encoder: Any, ids: Sequence[list[int]]) -> Rows:
    layer = np.asarray(encoder.forward_batch(ids).last_hidden_state)  # [B, T, H]
    lengths = np.array([len(row) for row in ids])
    mask = (np.arange(layer.shape[1]) < lengths[:, None]).astype(np.float32)
    return np.asarray(np.einsum("bth,bt->bh", layer, mask) / lengths[:, None], np.float32)
