"""sentence-transformers on PyTorch with its own defaults: scaled-dot-product attention, sorted.

A variant is a dtype, with batches of 32, or ``float16, batches of 256``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers.peer_main import Encode, Rows, Settings

NAME = "sentence-transformers"
PACKAGES = ("sentence-transformers", "transformers", "torch")
VARIANTS = ("float32", "bfloat16")

_BATCH_ROWS = 32


def load(settings: Settings, variants: Sequence[str]) -> dict[str, Encode]:
    """Build a model for each dtype: the encoder and the mean of its last layer."""
    import torch

    torch.set_num_threads(settings.threads)
    models: dict[str, Any] = {}
    loaded: dict[str, Encode] = {}
    for variant in variants:
        dtype, _, size = variant.partition(", batches of ")
        if dtype not in models:
            models[dtype] = _open(settings, getattr(torch, dtype))
        loaded[variant] = partial(_encode, models[dtype], int(size or _BATCH_ROWS))
    return loaded


def prepare(encode: Encode, texts: Sequence[str]) -> Callable[[], Rows]:
    """Tokenize sentences, and return a function that computes their rows, in another order."""
    assert isinstance(encode, partial)
    model, size = encode.args
    ordered = sorted(texts, key=len, reverse=True)
    starts = range(0, len(ordered), size)
    return partial(_compute, model, [model.preprocess(ordered[at : at + size]) for at in starts])


def _open(settings: Settings, dtype: Any) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    encoder = modules.Transformer(
        str(settings.model_dir), model_kwargs={"dtype": dtype}, max_seq_length=settings.max_seq_len
    )
    pooling = modules.Pooling(encoder.get_embedding_dimension(), pooling_mode="mean")
    device = {"cpu": "cpu", "gpu": "cuda"}[settings.device]
    return SentenceTransformer(modules=[encoder, pooling], device=device)


def _encode(model: Any, size: int, texts: Sequence[str]) -> Rows:
    rows = model.encode(
        list(texts), batch_size=size, show_progress_bar=False, convert_to_tensor=True
    )
    return np.asarray(rows.float().cpu().numpy(), np.float32)


def _compute(model: Any, batches: Sequence[Any]) -> Rows:
    import torch
    from sentence_transformers.util import batch_to_device

    with torch.inference_mode():
        blocks = [
            # A batch may be computed again: its tensors stay on the host.
            model(batch_to_device(dict(batch), model.device))["sentence_embedding"].float()
            for batch in batches
        ]
        rows: Rows = torch.cat(blocks).cpu().numpy()
        return rows
