"""sentence-transformers on PyTorch, with its own defaults: length-sorted, batches of 32."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.peer_main import Encode, Rows

NAME = "sentence-transformers"
PACKAGES = ("sentence-transformers", "transformers", "torch")
VARIANTS = ("float32", "bfloat16")


def load(
    model_dir: Path, max_seq_len: int, threads: int, variants: Sequence[str]
) -> dict[str, Encode]:
    """Build a model for each dtype: the encoder and the mean of its last layer."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    torch.set_num_threads(threads)
    loaded: dict[str, Encode] = {}
    for dtype in variants:
        kwargs = {"dtype": getattr(torch, dtype)}
        encoder = modules.Transformer(
            str(model_dir), model_kwargs=kwargs, max_seq_length=max_seq_len
        )
        pooling = modules.Pooling(encoder.get_embedding_dimension(), pooling_mode="mean")
        model = SentenceTransformer(modules=[encoder, pooling], device="cpu")
        loaded[dtype] = partial(_encode, model)
    return loaded


def _encode(model: Any, texts: Sequence[str]) -> Rows:
    rows = model.encode(list(texts), show_progress_bar=False, convert_to_tensor=True)
    return np.asarray(rows.float().numpy(), np.float32)
