"""Writes small random BERT checkpoints in both layouts, for tests of any room.

The variable names are spelt out here a second time, on purpose: they are those of
google-research/bert and of transformers, not those of the table under test.
"""

import json
import shutil
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

Variables: TypeAlias = dict[str, npt.NDArray[Any]]

TINY: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}
_WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "he",
    "shall",
    "unto",
    "for",
    "i",
    "his",
    "a",
    "lord",
    "they",
    "be",
    "is",
    "him",
    "not",
    "them",
]
VOCABULARY: list[str] = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *string.ascii_lowercase,
    *(f"##{letter}" for letter in string.ascii_lowercase),
    *string.digits,
    *(f"##{digit}" for digit in string.digits),
    *string.punctuation,
    *(word for word in _WORDS if len(word) > 1),
]

#: Google's name of each linear layer and LayerNorm within a layer
_LINEAR = (
    "attention/self/query",
    "attention/self/key",
    "attention/self/value",
    "attention/output/dense",
    "intermediate/dense",
    "output/dense",
)
_NORM = ("attention/output/LayerNorm", "output/LayerNorm")


def tiny_variables(config: Mapping[str, Any] = TINY, seed: int = 0) -> Variables:
    """Random weights under Google's names, pooler included, lively enough to show mistakes."""
    rng = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    made: Variables = {}

    def normal(name: str, *shape: int, mean: float = 0.0, scale: float = 1.0) -> None:
        made[f"bert/{name}"] = (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    def linear(name: str, rows: int, columns: int) -> None:
        normal(f"{name}/kernel", rows, columns, scale=1.5 / rows**0.5)
        normal(f"{name}/bias", columns, scale=0.2)

    def norm(name: str) -> None:
        normal(f"{name}/gamma", hidden, mean=1.0, scale=0.2)
        normal(f"{name}/beta", hidden, scale=0.2)

    normal("embeddings/word_embeddings", config["vocab_size"], hidden)
    normal("embeddings/position_embeddings", config["max_position_embeddings"], hidden, scale=0.5)
    normal("embeddings/token_type_embeddings", config["type_vocab_size"], hidden, scale=0.5)
    norm("embeddings/LayerNorm")
    for index in range(config["num_hidden_layers"]):
        at = f"encoder/layer_{index}/"
        for name in _LINEAR:
            rows = inner if name == "output/dense" else hidden
            linear(at + name, rows, inner if name == "intermediate/dense" else hidden)
        for name in _NORM:
            norm(at + name)
    linear("pooler/dense", hidden, hidden)
    return made


def write_tiny_google(directory: Path, seed: int = 0, **config: Any) -> Path:
    """Write a tiny random model in Google's layout; `config` overrides `TINY`. Needs TensorFlow."""
    values = TINY | config
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bert_config.json").write_text(json.dumps(values))
    write_vocab(directory)
    save_google(directory / "bert_model.ckpt", tiny_variables(values, seed))
    return directory


def write_tiny_hf(directory: Path, seed: int = 0, *, prefix: str = "", **config: Any) -> Path:
    """Write the same model as `write_tiny_google` in Hugging Face's layout. No TensorFlow."""
    values = TINY | config
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"model_type": "bert"} | values))
    write_vocab(directory)
    variables = tiny_variables(values, seed)
    tensors = {prefix + hf_name(name): to_hf(name, array) for name, array in variables.items()}
    save_file(tensors, directory / "model.safetensors")
    return directory


def hf_to_google(source: Path, target: Path) -> Path:
    """Rewrite a model in Hugging Face's layout as a Google checkpoint. Needs TensorFlow."""
    target.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    (target / "bert_config.json").write_text(
        json.dumps({key: value for key, value in config.items() if key in TINY})
    )
    shutil.copyfile(source / "vocab.txt", target / "vocab.txt")
    tensors = load_file(source / "model.safetensors")
    names = (name.removeprefix("bert.") for name in tiny_variables_names(config))
    variables = {
        name: tensors[hf_name(name)].T if name.endswith("/kernel") else tensors[hf_name(name)]
        for name in names
    }
    save_google(target / "bert_model.ckpt", variables)
    return target


def tiny_variables_names(config: Mapping[str, Any]) -> list[str]:
    """Google's variable names for a config of any size."""
    small = TINY | {"num_hidden_layers": config["num_hidden_layers"]}
    return list(tiny_variables(small))


def write_vocab(directory: Path, tokens: list[str] | None = None) -> None:
    """Write `vocab.txt`."""
    lines = VOCABULARY if tokens is None else tokens
    (directory / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def save_google(prefix: Path, variables: Variables) -> None:
    """Write a TensorFlow checkpoint of these names at `prefix`."""
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(array) for array in variables.values()],
    )


def hf_name(name: str) -> str:
    """transformers' name of one of Google's variables."""
    name = name.removeprefix("bert/").replace("layer_", "layer.").replace("/", ".")
    if name.endswith("_embeddings"):
        return f"{name}.weight"
    for google, other in (
        ("kernel", "weight"),
        ("gamma", "weight"),
        ("beta", "bias"),
    ):
        if name.endswith(f".{google}"):
            return f"{name.removesuffix(google)}{other}"
    return name


def to_hf(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """transformers keeps dense kernels as [out, in]."""
    return np.ascontiguousarray(array.T) if name.endswith("/kernel") else array
