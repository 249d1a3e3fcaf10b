"""The settings of sentence-transformers' Transformer module, and of its tokenizer."""

from pathlib import Path
from typing import Any

from bertq_bert.config import read_json, shown
from bertq_bert.errors import BadConfig, UnsupportedModel

#: The transformer module's own settings: newest name first.
_SETTINGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
)

#: Settings of the transformer module that bertq does not have.
_REFUSED = ("processing_kwargs", "query_length", "document_length", "query_expansion")

#: Arguments for transformers that it may hold, and those that do not change a vector.
_ARGUMENTS = (
    "model_args",
    "model_kwargs",
    "tokenizer_args",
    "processor_kwargs",
    "config_args",
    "config_kwargs",
)
_HARMLESS = {
    "add_pooling_layer",
    "attn_implementation",
    "device_map",
    "dtype",
    "low_cpu_mem_usage",
    "padding_side",
    "torch_dtype",
    "trust_remote_code",
    "use_fast",
    "use_memory_efficient_attention",
    "unpad_inputs",
}

#: Longest sequences that tokenizers of transformers have without a limit of their own: 1e30.
_UNLIMITED_TOKENS = 10**9


def read_settings(transformer: Path) -> dict[str, Any]:
    """The transformer module's settings, by any of the names that versions gave the file.

    Raises:
        UnsupportedModel: a setting would change the tokens or the network.
    """
    side = read_optional(transformer / "tokenizer_config.json").get("truncation_side")
    if side not in (None, "right"):
        raise UnsupportedModel(
            f"{transformer / 'tokenizer_config.json'}: truncation_side is {shown(side)}: bertq "
            "cuts long texts on the right unless a request says otherwise"
        )
    path = next((transformer / name for name in _SETTINGS if (transformer / name).is_file()), None)
    if path is None:
        return {}
    settings = read_json(path)
    for key in _REFUSED:
        if settings.get(key):
            raise UnsupportedModel(f"{path}: {key} is {shown(settings[key])}: not supported")
    for key in _ARGUMENTS:
        values = settings.get(key) or {}
        names = values if isinstance(values, dict) else {}
        unknown = sorted(set(names) - _HARMLESS)
        if not isinstance(values, dict) or unknown:
            raise UnsupportedModel(
                f"{path}: {key} is {shown(values)}: bertq knows none of these settings: take it "
                "out if it does not change the vectors"
            )
    output = settings.get("module_output_name")
    if output not in (None, "token_embeddings", "scores"):
        raise UnsupportedModel(f"{path}: module_output_name {shown(output)} is not supported")
    return settings


def read_length(transformer: Path, settings: dict[str, Any]) -> int | None:
    """Most tokens of a text.

    ``max_seq_length``; or the tokenizer's own ``model_max_length``, which sentence-transformers
    lowers to the network's positions. None: only the network limits it.
    """
    path = transformer / "sentence_bert_config.json"
    own = _tokens(settings.get("max_seq_length"), path)
    if own is not None:
        return own
    path = transformer / "tokenizer_config.json"
    tokenizer = _tokens(read_optional(path).get("model_max_length"), path)
    positions = read_optional(transformer / "config.json").get("max_position_embeddings")
    known = [
        value for value in (tokenizer, positions) if isinstance(value, int) and 0 < value < 2**31
    ]
    return min(known, default=None)


def _tokens(value: Any, path: Path) -> int | None:
    if value is None or (isinstance(value, int | float) and value > _UNLIMITED_TOKENS):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadConfig(f"{path}: the longest sequence is {shown(value)}, not a number of tokens")
    return value


def read_boolean(config: dict[str, Any], key: str, path: Path, *, default: bool = False) -> bool:
    """True or False; null is ``default``."""
    value = config.get(key, default)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadConfig(f"{path}: {key} is {shown(value)}, not true or false")
    return value


def read_optional(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is no such file."""
    return read_json(path) if path.is_file() else {}
