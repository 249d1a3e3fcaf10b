"""ONNX Runtime on the CPU, float32: length-sorted, in batches of 32 and of 64.

``plain`` is the graph that PyTorch exports, with what ONNX Runtime fuses by itself; ``fused`` went
through its optimizer for BERT before, which also fuses attention and embeddings.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.peer_main import Encode, Rows

NAME = "ONNX Runtime"
PACKAGES = ("onnxruntime", "onnx", "torch", "tokenizers")
VARIANTS = ("plain, batches of 32", "plain, batches of 64", "fused, batches of 32",
            "fused, batches of 64")  # fmt: skip


def load(
    model_dir: Path, max_seq_len: int, threads: int, variants: Sequence[str]
) -> dict[str, Encode]:
    """Export the model and open a session for each form of the graph."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_seq_len)
    sessions = {}
    with tempfile.TemporaryDirectory(prefix="bertq-onnx-") as scratch:
        for form in dict.fromkeys(variant.partition(",")[0] for variant in variants):
            path = Path(scratch) / f"{form}.onnx"
            program = [sys.executable, "-m", "benchmarks.peers.onnx_export"]
            subprocess.run([*program, str(model_dir), str(path), form], check=True)
            sessions[form] = _open(path, threads)
    loaded: dict[str, Encode] = {}
    for variant in variants:
        form, _, batch = variant.partition(",")
        loaded[variant] = partial(_encode, sessions[form], tokenizer, int(batch.split()[-1]))
    return loaded


def _open(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _encode(session: Any, tokenizer: Any, size: int, texts: Sequence[str]) -> Rows:
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
    order = np.argsort([len(row) for row in ids], kind="stable")
    blocks = []
    for start in range(0, len(order), size):
        batch = [ids[index] for index in order[start : start + size]]
        block = np.zeros((len(batch), len(batch[-1])), np.int64)
        mask = np.zeros_like(block)
        for row, tokens in enumerate(batch):
            block[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        blocks += session.run(None, {"input_ids": block, "attention_mask": mask})
    rows = np.concatenate(blocks)
    rows[order] = rows.copy()
    return np.asarray(rows, np.float32)
