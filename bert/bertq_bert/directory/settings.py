"""Reads the settings of sentence-transformers' Transformer module, and of its tokenizer."""

from pathlib import Path
from typing import Any

from bertq_bert.config import read_json, shown
from bertq_bert.errors import BadConfig, UnsupportedModel

#: Names of the file of the module's settings, newest first.
_SETTINGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
)

#: Settings of the module that bertq does not support.
_REFUSED = ("processing_kwargs", "query_length", "document_length", "query_expansion")

#: Settings with arguments for transformers, and names of arguments that do not change a vector.
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

#: A length above this means no limit: tokenizers of transformers without a limit have 1e30.
_UNLIMITED_TOKENS = 10**9


def settings_file(transformer: Path) -> Path | None:
    """Return the file with the settings of a Transformer module; None if it has none."""
    paths = (transformer / name for name in _SETTINGS)
    return next((path for path in paths if path.is_file()), None)


def read_settings(transformer: Path) -> dict[str, Any]:
    """Read the settings of the Transformer module, from a file with any of its names.

    Args:
        transformer: directory of the module.

    Returns:
        The settings; an empty dict if there is no such file.

    Raises:
        UnsupportedModel: a setting that bertq does not support may change the vectors.
    """
    side = read_optional(transformer / "tokenizer_config.json").get("truncation_side")
    if side not in (None, "right"):
        raise UnsupportedModel(
            f"{transformer / 'tokenizer_config.json'}: truncation_side is {shown(side)}: bertq "
            "cuts long texts on the right unless a request says otherwise"
        )
    path = settings_file(transformer)
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
    """Return the maximum number of tokens of a text; None if only the network limits it.

    It is ``max_seq_length`` of the settings. Without that, it is ``model_max_length`` of the
    tokenizer, which sentence-transformers reduces to the number of the network's positions.

    Args:
        transformer: directory of the module.
        settings: the settings of the module.

    Raises:
        BadConfig: a value is not a positive whole number.
    """
    own = _tokens(settings.get("max_seq_length"), settings_file(transformer) or transformer)
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
    """Return a boolean of a config; ``default`` if it is missing or null.

    Args:
        config: the contents of a file.
        key: name of the value.
        path: the file, for messages.
        default: the default.

    Raises:
        BadConfig: the value is not a boolean.
    """
    value = config.get(key, default)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadConfig(f"{path}: {key} is {shown(value)}, not true or false")
    return value


def read_optional(path: Path) -> dict[str, Any]:
    """Read a file with a JSON object; return an empty dict if the file does not exist."""
    return read_json(path) if path.is_file() else {}
