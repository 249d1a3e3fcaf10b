"""OpenVINO on the CPU, float32 and bfloat16.

Many sentences run as a program for bulk would run them: length-sorted, in batches of 16, with the
performance hint for throughput, which computes one batch on each core. Up to 16 sentences are one
batch, with the hint for latency.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.onnx_export import export
from benchmarks.peers.padding import open_tokenizer, pad, split, tokenize
from benchmarks.peers.peer_main import Encode, Rows, Settings

NAME = "OpenVINO"
PACKAGES = ("openvino", "onnx", "torch", "tokenizers")
VARIANTS = ("float32", "bfloat16")

#: Rows of a batch; of 1 to 64 the fastest in bulk.
_BATCH_ROWS = 16
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def load(settings: Settings, variants: Sequence[str]) -> dict[str, Encode]:
    """Export the model and compile it for each dtype and hint."""
    import openvino

    tokenizer = open_tokenizer(settings.model_dir, settings.max_seq_len)
    core = openvino.Core()
    loaded: dict[str, Encode] = {}
    with tempfile.TemporaryDirectory(prefix="bertq-onnx-") as scratch:
        model = core.read_model(export(settings.model_dir, Path(scratch) / "plain.onnx", "plain"))
        for dtype in variants:
            properties = {
                "INFERENCE_NUM_THREADS": settings.threads,
                "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
            }
            bulk, few = (
                core.compile_model(model, "CPU", {**properties, "PERFORMANCE_HINT": hint})
                for hint in ("THROUGHPUT", "LATENCY")
            )
            queue = openvino.AsyncInferQueue(bulk)
            loaded[dtype] = partial(_encode, tokenizer, queue, few.create_infer_request())
    return loaded


def _encode(tokenizer: Any, queue: Any, request: Any, texts: Sequence[str]) -> Rows:
    ids = tokenize(tokenizer, texts)
    if len(ids) <= _BATCH_ROWS:
        return np.array(request.infer(pad(ids))[0], np.float32)
    blocks: list[tuple[npt.NDArray[np.intp], Rows]] = []

    def store(done: Any, batch: npt.NDArray[np.intp]) -> None:
        blocks.append((batch, np.array(done.get_output_tensor().data, np.float32)))

    queue.set_callback(store)
    for batch in split(ids, _BATCH_ROWS):
        queue.start_async(pad([ids[row] for row in batch]), batch)
    queue.wait_all()
    rows = np.empty((len(ids), blocks[0][1].shape[1]), np.float32)
    for batch, block in blocks:
        rows[batch] = block
    return rows
