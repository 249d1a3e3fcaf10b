"""Writes a model of a known shape with random weights: ``SHAPE TOKENIZER_JSON OUT``.

It runs in the interpreter of the peers, with transformers. The tokenizer is that of any BERT: what
is measured is the network.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Of each shape: transformers' name of the family, and what its config has beside the base shape.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT-base": ("Bert", {"vocab_size": 30522}),
    "BERT-large": (
        "Bert",
        {
            "vocab_size": 30522,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
    ),
    "XLM-R-base": (
        "XLMRoberta",
        {
            "vocab_size": 250002,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
    ),
    "MPNet-base": (
        "MPNet",
        {"vocab_size": 30527, "max_position_embeddings": 514, "layer_norm_eps": 1e-5},
    ),
    "ModernBERT-base": (
        "ModernBert",
        {
            "vocab_size": 50368,
            "num_hidden_layers": 22,
            "intermediate_size": 1152,
            "max_position_embeddings": 8192,
        },
    ),
    "DistilBERT-base": ("DistilBert", {"vocab_size": 30522}),
    "NomicBERT-base": ("NomicBert", {"vocab_size": 30528, "max_position_embeddings": 2048}),
    "GTE-base": ("Gte", {"vocab_size": 30528, "max_position_embeddings": 8192}),
    "ALBERT-base": (
        "Albert",
        {"vocab_size": 30000, "intermediate_size": 3072, "num_attention_heads": 12},
    ),
    "ELECTRA-base": ("Electra", {"vocab_size": 30522, "embedding_size": 768, "hidden_size": 768}),
}


def write_model(python: str, shape: str, tokenizer: Path, out: Path) -> None:
    """Run this program in an interpreter."""
    program = [python, "-m", "benchmarks.peers.random_models"]
    subprocess.run([*program, shape, str(tokenizer), str(out)], check=True)


def main(shape: str, tokenizer: str, out: str) -> None:
    """Write the model as a directory of sentence-transformers: mean of the last layer."""
    import torch
    import transformers

    family, settings = SHAPES[shape]
    base = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    base = {} if family == "DistilBert" else base | {"pad_token_id": 0}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**(base | settings))
    network = getattr(transformers, f"{family}Model")(config)
    directory = Path(out)
    network.save_pretrained(directory)
    shutil.copyfile(tokenizer, directory / "tokenizer.json")
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 512,
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    start = "sentence_transformers.models."
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{start}Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{start}Pooling"},
    ]
    pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling").mkdir()
    for name, value in (
        ("tokenizer_config.json", described),
        ("modules.json", modules),
        ("sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False}),
        ("1_Pooling/config.json", pooling),
    ):
        (directory / name).write_text(json.dumps(value, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
