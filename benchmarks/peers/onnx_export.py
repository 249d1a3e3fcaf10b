"""Writes the model as ONNX, with the mean of the last layer: ``MODEL_DIR TARGET FORM``.

This is a separate program, so that PyTorch's threads have ended when other libraries are timed.
"""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any


def export(model_dir: Path, target: Path, form: str) -> Path:
    """Run this program, unless the file is there already; return its path."""
    if not target.exists():
        program = [sys.executable, "-m", "benchmarks.peers.onnx_export"]
        subprocess.run([*program, str(model_dir), str(target), form], check=True)
    return target


def main(model_dir: Path, target: Path, form: str) -> None:
    """Export the weights; ``fused`` has ONNX Runtime's own optimizer rewrite the graph for BERT."""
    import torch
    from transformers import AutoModel

    class Mean(torch.nn.Module):  # type: ignore[misc]  # a class of a package that may be missing
        """Token ids and mask, [B, T] each, to rows [B, H]."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(model_dir, attn_implementation="eager").eval()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            """Return the mean over the real tokens."""
            output = self.bert(input_ids=input_ids, attention_mask=attention_mask)
            mask = attention_mask.unsqueeze(-1).to(torch.float32)
            return (output.last_hidden_state * mask).sum(1) / mask.sum(1)

    warnings.simplefilter("ignore")
    model, ids = Mean(), torch.ones(3, 7, dtype=torch.int64)
    # With padding in it: a mask of ones would be found needless, and left out of the graph.
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 3 + [0] * 4])
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["rows"]}
    if form == "plain":
        sizes = {0: torch.export.Dim("rows", min=1, max=65536), 1: torch.export.Dim("tokens")}
        torch.onnx.export(
            model, (ids, mask), target, dynamo=True, dynamic_shapes=(sizes, sizes),
            external_data=False, verbose=False, **names,
        )  # fmt: skip
        return
    # The optimizer knows the graphs of the older exporter.
    axes = {name: {0: "rows", 1: "tokens"} for name in names["input_names"]}
    with torch.no_grad():
        torch.onnx.export(
            model, (ids, mask), target, dynamo=False, dynamic_axes=axes, opset_version=17, **names
        )
    from onnxruntime.transformers.optimizer import optimize_model

    config = model.bert.config
    fused = optimize_model(
        str(target),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
    )
    if not fused.get_fused_operator_statistics()["Attention"]:
        raise SystemExit("the optimizer has fused no attention")
    fused.save_model_to_file(str(target))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
