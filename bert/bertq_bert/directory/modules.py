"""Reads the kind, the directory and the settings of a module of sentence-transformers."""

from pathlib import Path
from typing import Any, NamedTuple

from bertq_bert.config import read_json, shown
from bertq_bert.directory.settings import read_boolean, read_optional
from bertq_bert.errors import BadConfig, BrokenFile, UnsupportedModel
from bertq_bert.pooling import MODES, Step

#: Flags in the config of a pooling, in the older form, and the mode that each stands for.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

#: Activations by the names of their classes in torch.
_ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "Sigmoid": "sigmoid",
    "SiLU": "silu",
    "Softmax": "softmax",
}

#: Modules that bertq runs, for messages.
_AFTER = "Dense, LayerNorm, Normalize, Dropout"
_KNOWN = "Transformer, MLMTransformer, Pooling, SpladePooling, Dense, LayerNorm, Normalize, Dropout"


class Module(NamedTuple):
    """An entry of ``modules.json``."""

    #: name of its class
    kind: str
    folder: Path
    #: its index in the file
    number: int


def read_module(entry: Any, number: int, path: Path) -> Module:
    """Read one entry of ``modules.json``; ``number`` is its index, and ``path`` the file."""
    return Module(_read_kind(entry, path), _read_folder(entry, path), number)


def read_step(module: Module, path: Path) -> Step:
    """Read the settings of a module after the pooling; ``path`` is ``modules.json``."""
    config_file = module.folder / "config.json"
    if module.kind == "Normalize":
        _check_features(read_optional(config_file), config_file)
        return Step("normalize", module.number)
    if module.kind == "Dense":
        return _read_dense(config_file, module.number)
    if module.kind == "LayerNorm":
        size = read_json(config_file).get("dimension")
        if not _is_size(size):
            raise BadConfig(f"{config_file}: dimension must be a whole number")
        return Step("layer_norm", module.number, size, size)
    raise UnsupportedModel(
        f"{path}: module {module.kind} after the pooling is not supported: bertq knows {_AFTER}"
    )


def _read_dense(path: Path, number: int) -> Step:
    """Read the settings of a dense layer after the pooling; ``path`` is its ``config.json``."""
    config = read_json(path)
    _check_features(config, path)
    if config.get("use_residual"):
        raise UnsupportedModel(f"{path}: use_residual is not supported")
    inputs, outputs = config.get("in_features"), config.get("out_features")
    if not (_is_size(inputs) and _is_size(outputs)):
        raise BadConfig(f"{path}: in_features and out_features must be whole numbers")
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    has_bias = read_boolean(config, "bias", path, default=True)
    kind = "dense" if has_bias else "dense_without_bias"
    return Step(kind, number, inputs, outputs, read_activation(name, path))


def _check_features(config: dict[str, Any], path: Path) -> None:
    """Check that a module reads and writes only the vector of the sentence.

    Raises:
        UnsupportedModel: the module has other features as input or output.
    """
    for key in ("module_input_name", "module_output_name"):
        value = config.get(key)
        if value not in (None, "sentence_embedding"):
            raise UnsupportedModel(
                f"{path}: {key} is {shown(value)}: only sentence_embedding is supported"
            )


def _read_kind(entry: Any, path: Path) -> str:
    """Return the name of the class of a module, without its Python module."""
    kind = entry.get("type") if isinstance(entry, dict) else None
    if not isinstance(kind, str):
        raise BrokenFile(f"{path} has a module without a type")
    if not kind.startswith("sentence_transformers."):
        raise UnsupportedModel(
            f"{path}: module {shown(kind)} is the model's own Python code, which bertq does not "
            f"run: it knows {_KNOWN}"
        )
    name = kind.rpartition(".")[2]
    return name if name.isidentifier() else shown(name)


def _read_folder(entry: Any, path: Path) -> Path:
    """Return the directory of the files of a module."""
    name = entry.get("path", "")
    if not isinstance(name, str) or not _is_inside(name):
        raise BrokenFile(
            f"{path}: the path of a module is {shown(name)}, not a folder inside the model's "
            "directory"
        )
    return path.parent / name


def _is_inside(name: str) -> bool:
    """Return whether a path leads to a place inside the directory of the file that names it."""
    path = Path(name)
    is_valid = name.isprintable() and all(len(part.encode()) <= 255 for part in path.parts)
    return is_valid and len(name) < 1000 and not path.is_absolute() and ".." not in path.parts


def read_modes(config: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Return the modes of a ``Pooling`` module, from either form of its settings.

    Args:
        config: the settings.
        path: the file of the settings, for messages.

    Raises:
        BadConfig: the setting is neither a mode nor a list of modes.
        UnsupportedModel: a mode is unknown.
    """
    named = config.get("pooling_mode")
    if named is not None:
        modes = [named] if isinstance(named, str) else named
        if not isinstance(modes, list) or not modes:
            raise BadConfig(f"{path}: pooling_mode is {shown(named)}, not a mode or a list of them")
        unknown = [mode for mode in modes if mode not in MODES]
    else:
        flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
        unknown = [flag for flag in flags if flag not in _FLAGS]
        modes = [mode for flag, mode in _FLAGS.items() if flag in flags] or ["mean"]
    if unknown:
        raise UnsupportedModel(
            f"{path}: pooling mode {shown(unknown[0])} is unknown: bertq knows {', '.join(MODES)}"
        )
    return tuple(modes)


def read_activation(name: Any, path: Path) -> str:
    """Return bertq's name of an activation.

    Args:
        name: name of the activation's class in torch.
        path: the file with the name, for messages.

    Raises:
        UnsupportedModel: the activation is unknown.
    """
    found = None
    if isinstance(name, str) and name.startswith("torch.nn."):
        found = _ACTIVATIONS.get(name.rpartition(".")[2])
    if found is None:
        raise UnsupportedModel(
            f"{path}: activation {shown(name)} is unknown: bertq knows torch's "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return found


def _is_size(value: Any) -> bool:
    """Return whether a JSON value is a positive whole number."""
    return type(value) is int and value > 0
