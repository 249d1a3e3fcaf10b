"""bertq itself, in process: the encoder without any queue."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.peers.peer_main import Encode, Rows
from bertq.protocol.queues import Device
from bertq_bert import Encoder
from bertq_workers.startup import devices

NAME = "bertq"
PACKAGES = ("bertq", "tensorflow", "tokenizers")
VARIANTS = ("float32", "bfloat16")


def load(
    model_dir: Path, max_seq_len: int, threads: int, variants: Sequence[str]
) -> dict[str, Encode]:
    """Build an encoder for each dtype, as a worker does."""
    from bertq_bert import load_encoder

    devices.pin(Device("cpu", 0), os.environ)
    lanes = devices.configure(threads).lanes
    loaded: dict[str, Encode] = {}
    for dtype in variants:
        encoder = load_encoder(
            model_dir,
            max_seq_len=max_seq_len,
            pooling_strategy="REDUCE_MEAN",
            pooling_layers=(-1,),
            dtype=dtype,
            lanes=lanes,
        )
        encoder.warm_up()
        loaded[dtype] = partial(_encode, encoder)
    return loaded


def batches(encode: Encode, texts: Sequence[str]) -> list[list[str]]:
    """Return sentences as the encoder batches them, one execution of the graph each."""
    assert isinstance(encode, partial)
    encoder: Encoder = encode.args[0]
    lengths = [len(ids) for ids in encoder.tokenize(texts).ids]
    return [[texts[row] for row in batch] for batch in encoder.budget.split(lengths)]


def _encode(encoder: Encoder, texts: Sequence[str]) -> Rows:
    # as the others: the mean of the last layer
    return encoder.encode(texts, normalize=False)
