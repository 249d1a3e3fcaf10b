"""bertq itself, in process: the encoder without any queue.

A variant is a dtype, or a dtype and ``XLA``, which compiles the shapes of batches.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.peers.peer_main import Encode, Rows, Settings
from bertq.protocol.queues import Device
from bertq_bert import Encoder, read_source
from bertq_workers.startup import devices

NAME = "bertq"
PACKAGES = ("bertq", "tensorflow", "tokenizers")
VARIANTS = ("float32", "bfloat16")

_POLL_SECONDS = 0.05


def load(settings: Settings, variants: Sequence[str]) -> dict[str, Encode]:
    """Build an encoder for each variant, as a worker does."""
    devices.pin(Device("gpu" if settings.device == "gpu" else "cpu", 0), os.environ)
    lanes = devices.configure(settings.threads).lanes
    loaded: dict[str, Encode] = {}
    for variant in variants:
        dtype, _, compiler = variant.partition(", ")
        source = read_source(
            settings.model_dir,
            max_seq_len=settings.max_seq_len,
            pooling_strategy="REDUCE_MEAN",
            pooling_layers=(-1,),
            dtype=dtype,
        )
        encoder = Encoder.build(source, lanes=lanes, compiles=compiler == "XLA")
        encoder.warm_up()
        loaded[variant] = partial(_encode, encoder)
    return loaded


def batches(encode: Encode, texts: Sequence[str]) -> list[list[str]]:
    """Return sentences as the encoder batches them, one execution of the graph each."""
    encoder = _encoder_of(encode)
    lengths = [len(ids) for ids in encoder.tokenize(texts).ids]
    return [[texts[row] for row in batch] for batch in encoder.budget.split(lengths)]


def prepare(encode: Encode, texts: Sequence[str]) -> Callable[[], Rows]:
    """Tokenize sentences, and return a function that computes their rows."""
    encoder = _encoder_of(encode)
    return partial(encoder.compute, encoder.tokenize(texts).ids)


def warm_up(encode: Encode, texts: Sequence[str], singles: int) -> dict[str, Any]:
    """Encode all sentences, then the first ones singly; wait until their shapes are compiled.

    Returns:
        The compilations since the start, and the peak of a GPU's memory in bytes.
    """
    encoder = _encoder_of(encode)
    encoder.encode(texts)
    for text in texts[:singles]:
        encoder.encode([text])
    while (stats := encoder.compile_stats()) is not None and stats.waiting:
        time.sleep(_POLL_SECONDS)
    memory = devices.memory()
    return {
        "shapes": stats.shapes if stats else 0,
        "compile_seconds": stats.seconds if stats else 0.0,
        "compile_errors": stats.errors if stats else 0,
        "peak_bytes": memory[1] if memory else None,
    }


def _encoder_of(encode: Encode) -> Encoder:
    assert isinstance(encode, partial)
    encoder: Encoder = encode.args[0]
    return encoder


def _encode(encoder: Encoder, texts: Sequence[str]) -> Rows:
    # as the others: the mean of the last layer
    return encoder.encode(texts, normalize=False)
