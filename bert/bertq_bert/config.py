"""The hyper-parameters of a BERT, from ``bert_config.json`` or ``config.json``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertq_bert.errors import BadConfig, BrokenFile, MissingFile, NotBert

#: Activations of the feed-forward layer. ``gelu`` is the exact one (erf) in both layouts:
#: the golden vectors of bert-as-service agree with it and not with the tanh form.
ACTIVATIONS: tuple[str, ...] = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
#: Sizes beyond these are damage, not models; other sizes may go up to 2**24.
_LARGEST = {"num_hidden_layers": 4096}


@dataclass(frozen=True)
class BertConfig:
    """What fixes the shapes and the arithmetic of the network (names of google-research/bert)."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str
    layer_norm_eps: float = 1e-12

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        MissingFile, BrokenFile: the file is not there, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFile(f"no such file: {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenFile(f"{path} cannot be read as JSON: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise BrokenFile(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


def read_config(path: Path) -> BertConfig:
    """Read ``path`` and check that it describes a BERT encoder.

    Raises:
        MissingFile, BrokenFile: the file cannot be read.
        NotBert: ``model_type`` is not ``bert``, the positions are not absolute, or it is a decoder.
        BadConfig: a value is missing, impossible, or an activation is unknown.
    """
    raw = read_json(path)
    _check_architecture(raw, path)
    sizes = {key: _size(raw, key, path) for key in _SIZES}
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise BadConfig(
            f"{path}: hidden_size {sizes['hidden_size']} is not a multiple of "
            f"num_attention_heads {sizes['num_attention_heads']}"
        )
    activation = raw.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise BadConfig(
            f"{path}: hidden_act {activation!r} is unknown: bertq knows {', '.join(ACTIVATIONS)}"
        )
    epsilon = raw.get("layer_norm_eps", 1e-12)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise BadConfig(f"{path}: layer_norm_eps is {epsilon!r}, not a number in 0..1")
    return BertConfig(**sizes, hidden_act=activation, layer_norm_eps=float(epsilon))


def _check_architecture(raw: dict[str, Any], path: Path) -> None:
    for key, wanted in (
        ("model_type", "bert"),
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
    ):
        value = raw.get(key, wanted)
        if value != wanted:
            raise NotBert(f"{path}: {key} is {value!r}: bertq runs BERT, where it is {wanted!r}")


def _size(raw: dict[str, Any], key: str, path: Path) -> int:
    if key not in raw:
        raise BadConfig(f"{path}: {key} is missing")
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadConfig(f"{path}: {key} is {value!r}, not a positive whole number")
    if value > _LARGEST.get(key, 2**24):
        raise BadConfig(f"{path}: {key} is {value}: no BERT is that large")
    return value
