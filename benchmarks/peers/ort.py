"""ONNX Runtime on the CPU, float32 and int8: length-sorted, in batches of 32 and of 64.

``plain`` is the graph that PyTorch exports, with what ONNX Runtime fuses by itself; ``fused`` went
through its optimizer for BERT before, which also fuses attention and embeddings. ``int8`` is the
fused graph after dynamic quantization: weights in int8, and tokens in uint8 as they come.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.onnx_export import export
from benchmarks.peers.padding import open_tokenizer, pad, split, tokenize
from benchmarks.peers.peer_main import Encode, Rows, Settings

NAME = "ONNX Runtime"
PACKAGES = ("onnxruntime", "onnx", "torch", "tokenizers")
VARIANTS = ("float32, plain, batches of 32", "float32, plain, batches of 64",
            "float32, fused, batches of 32", "float32, fused, batches of 64",
            "int8, fused, batches of 32")  # fmt: skip


def load(settings: Settings, variants: Sequence[str]) -> dict[str, Encode]:
    """Export the model and open a session for each form of the graph."""
    tokenizer = open_tokenizer(settings.model_dir, settings.max_seq_len)
    sessions: dict[tuple[str, str], Any] = {}
    loaded: dict[str, Encode] = {}
    with tempfile.TemporaryDirectory(prefix="bertq-onnx-") as scratch:
        for variant in variants:
            dtype, form, batch = variant.split(", ")
            if (dtype, form) not in sessions:
                path = export(settings.model_dir, Path(scratch) / f"{form}.onnx", form)
                path = _quantize(path) if dtype == "int8" else path
                sessions[dtype, form] = _open(path, settings.threads)
            size = int(batch.split()[-1])
            loaded[variant] = partial(_encode, sessions[dtype, form], tokenizer, size)
    return loaded


def _quantize(path: Path) -> Path:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantized = path.with_suffix(".int8.onnx")
    # The shape inference does not know the fused operators, and all of their outputs are floats.
    floats = {"DefaultTensorType": TensorProto.FLOAT}
    quantize_dynamic(
        path, quantized, per_channel=True, weight_type=QuantType.QInt8, extra_options=floats
    )
    return quantized


def _open(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _encode(session: Any, tokenizer: Any, size: int, texts: Sequence[str]) -> Rows:
    ids = tokenize(tokenizer, texts)
    blocks, order = [], []
    for batch in split(ids, size):
        blocks += session.run(None, pad([ids[row] for row in batch]))
        order.append(batch)
    rows = np.empty((len(ids), blocks[0].shape[1]), np.float32)
    rows[np.concatenate(order)] = np.concatenate(blocks)
    return rows
