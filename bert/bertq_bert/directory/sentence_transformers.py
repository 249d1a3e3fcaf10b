"""Reads the files that sentence-transformers adds to a model: modules, pooling, length, prompts.

Both forms are read: that of versions 2 to 5, in which nearly every model on the hub is, and that of
versions since 5.4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertq_bert.config import read_json, read_json_value, shown
from bertq_bert.directory.settings import (
    read_boolean,
    read_length,
    read_optional,
    read_settings,
)
from bertq_bert.errors import BadConfig, BrokenFile, UnsupportedModel
from bertq_bert.pooling import MODES, Step

#: Old flags of a pooling's config, and the modes that they stand for.
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


@dataclass(frozen=True)
class Description:
    """Settings of a model other than its network and tokenizer."""

    #: folder of the transformer's files
    transformer: Path
    #: ``embed``, ``score`` or ``sparse``
    task: str
    #: the file that says so, for messages
    origin: str
    #: pooling modes in order; one of ``splade_max`` and ``splade_sum`` if the task is sparse
    modes: tuple[str, ...] = ()
    include_prompt: bool = True
    #: modules after the pooling, each with the folder of its weights
    steps: tuple[tuple[Step, Path], ...] = ()
    #: of the labels, or of SPLADE's logits; None: by their number
    activation: str | None = None
    #: most tokens of a text; None where only the network limits it
    max_seq_len: int | None = None
    #: whether the text is made lower case before the tokenizer
    lower: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None
    labels: tuple[str, ...] = ()


def read_description(directory: Path) -> Description | None:
    """Read the files that sentence-transformers or transformers added to a model.

    Returns:
        The settings; None for a directory that has neither ``modules.json`` nor a classifier.

    Raises:
        UnsupportedModel: a module, a mode or an activation is unknown; it is named.
        BadConfig, BrokenFile, MissingFile: a file is damaged, or lacks a value.
    """
    path = directory / "modules.json"
    if path.is_file():
        return _read_modules(path)
    config = read_optional(directory / "config.json")
    if _architecture(config).endswith("ForSequenceClassification"):
        return _read_classifier(directory, {}, config, "config.json")
    return None


def _read_modules(path: Path) -> Description:
    directory = path.parent
    modules = read_json_value(path)
    if not isinstance(modules, list) or not modules:
        raise BrokenFile(f"{path} is not a list of modules")
    kinds = [_kind(module, path) for module in modules]
    folders = [_folder(module, path) for module in modules]
    if kinds[0] not in ("Transformer", "MLMTransformer"):
        raise UnsupportedModel(
            f"{path}: the first module is {kinds[0]}: bertq runs models that begin with Transformer"
        )
    about = read_optional(directory / "config_sentence_transformers.json")
    for key in ("truncate_dim", "max_active_dims"):
        if about.get(key) is not None:
            raise UnsupportedModel(
                f"{directory / 'config_sentence_transformers.json'}: {key} is "
                f"{shown(about[key])}: bertq shortens rows when a request says so: take it out"
            )
    settings = read_settings(folders[0])
    config = read_optional(folders[0] / "config.json")
    task = settings.get("transformer_task", "feature-extraction")
    if about.get("model_type") == "CrossEncoder" or task == "sequence-classification":
        if kinds[1:]:
            raise UnsupportedModel(
                f"{path}: module {kinds[1]} follows a classifier: bertq runs cross-encoders that "
                "have none"
            )
        return _read_classifier(folders[0], about, config, "modules.json")
    if task not in ("feature-extraction", "fill-mask"):
        raise UnsupportedModel(f"{path}: transformer_task {shown(task)} is not supported")
    rest = list(zip(kinds[1:], folders[1:], range(1, len(kinds)), strict=True))
    if kinds[0] == "MLMTransformer" or task == "fill-mask" or "SpladePooling" in kinds:
        return _read_sparse(path, rest, folders[0], settings, about)
    return _read_pooled(path, rest, folders[0], settings, about)


def _read_pooled(
    path: Path,
    rest: list[tuple[str, Path, int]],
    transformer: Path,
    settings: dict[str, Any],
    about: dict[str, Any],
) -> Description:
    """Read a model for vectors: its pooling and the modules after it."""
    rest = [part for part in rest if part[0] != "Dropout"]  # does nothing but in training
    if not rest or rest[0][0] != "Pooling":
        after = rest[0][0] if rest else "nothing"
        raise UnsupportedModel(
            f"{path}: {after} follows the Transformer: bertq runs models with Pooling there"
        )
    pooling_file = rest[0][1] / "config.json"
    pooling = read_json(pooling_file)
    prompts, default = _prompts(about, path)
    return Description(
        transformer=transformer,
        task="embed",
        origin="modules.json",
        modes=_modes(pooling, pooling_file),
        include_prompt=read_boolean(pooling, "include_prompt", pooling_file, default=True),
        steps=tuple(_step(kind, folder, number, path) for kind, folder, number in rest[1:]),
        max_seq_len=read_length(transformer, settings),
        lower=read_boolean(settings, "do_lower_case", transformer / "sentence_bert_config.json"),
        prompts=prompts,
        default_prompt=default,
        similarity=_similarity(about),
    )


def _read_sparse(
    path: Path,
    rest: list[tuple[str, Path, int]],
    transformer: Path,
    settings: dict[str, Any],
    about: dict[str, Any],
) -> Description:
    """SPLADE: weights of the vocabulary's tokens."""
    kinds = [kind for kind, _, _ in rest]
    if kinds != ["SpladePooling"]:
        raise UnsupportedModel(
            f"{path}: modules {', '.join(kinds) or 'none'} follow a masked-LM network: bertq runs "
            "SpladePooling there"
        )
    pooling_file = rest[0][1] / "config.json"
    pooling = read_json(pooling_file)
    strategy = pooling.get("pooling_strategy", "max")
    activation = pooling.get("activation_function", "relu")
    if strategy not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
        raise UnsupportedModel(
            f"{pooling_file}: pooling_strategy {shown(strategy)} with activation_function "
            f"{shown(activation)} is unknown: bertq knows max and sum, relu and log1p_relu"
        )
    prompts, default = _prompts(about, path)
    return Description(
        transformer=transformer,
        task="sparse",
        origin="modules.json",
        modes=(f"splade_{strategy}",),
        activation=activation,
        max_seq_len=read_length(transformer, settings),
        lower=read_boolean(settings, "do_lower_case", transformer / "sentence_bert_config.json"),
        prompts=prompts,
        default_prompt=default,
        similarity=_similarity(about),
    )


def _read_classifier(
    directory: Path, about: dict[str, Any], config: dict[str, Any], origin: str
) -> Description:
    """A cross-encoder, or another classifier of texts: a number for each label."""
    nested = config.get("sentence_transformers")
    named = (
        about.get("activation_fn")
        or (nested.get("activation_fn") if isinstance(nested, dict) else None)
        or config.get("sbert_ce_default_activation_function")
    )
    prompts, default = _prompts(about, directory / "config_sentence_transformers.json")
    if default is not None and prompts[default]:
        raise UnsupportedModel(
            f"{directory}: default_prompt_name of config_sentence_transformers.json is "
            f"{shown(default)}: bertq runs cross-encoders without prompts"
        )
    return Description(
        transformer=directory,
        task="score",
        origin=origin,
        activation=None if named is None else _activation(named, directory / "config.json"),
        max_seq_len=read_length(directory, read_settings(directory)),
        prompts=prompts,
        default_prompt=default,
        labels=_labels(config),
    )


def _step(kind: str, folder: Path, number: int, path: Path) -> tuple[Step, Path]:
    """A module after the pooling."""
    if kind == "Normalize":
        config = read_optional(folder / "config.json")
        _check_features(config, folder / "config.json")
        return Step("normalize", number), folder
    if kind == "Dense":
        config_file = folder / "config.json"
        config = read_json(config_file)
        _check_features(config, config_file)
        if config.get("use_residual"):
            raise UnsupportedModel(f"{config_file}: use_residual is not supported")
        inputs, outputs = config.get("in_features"), config.get("out_features")
        if not (isinstance(inputs, int) and isinstance(outputs, int) and min(inputs, outputs) > 0):
            raise BadConfig(f"{config_file}: in_features and out_features must be whole numbers")
        named = config.get("activation_function", "torch.nn.modules.activation.Tanh")
        bias = read_boolean(config, "bias", config_file, default=True)
        activation = _activation(named, config_file)
        kind = "dense" if bias else "dense_without_bias"
        return Step(kind, number, inputs, outputs, activation), folder
    if kind == "LayerNorm":
        config = read_json(folder / "config.json")
        size = config.get("dimension")
        if not isinstance(size, int) or size < 1:
            raise BadConfig(f"{folder / 'config.json'}: dimension must be a whole number")
        return Step("layer_norm", number, size, size), folder
    raise UnsupportedModel(
        f"{path}: module {kind} after the pooling is not supported: bertq knows {_AFTER}"
    )


def _check_features(config: dict[str, Any], path: Path) -> None:
    for key in ("module_input_name", "module_output_name"):
        value = config.get(key)
        if value not in (None, "sentence_embedding"):
            raise UnsupportedModel(
                f"{path}: {key} is {shown(value)}: only sentence_embedding is supported"
            )


def _kind(module: Any, path: Path) -> str:
    kind = module.get("type") if isinstance(module, dict) else None
    if not isinstance(kind, str):
        raise BrokenFile(f"{path} has a module without a type")
    if not kind.startswith("sentence_transformers."):
        raise UnsupportedModel(
            f"{path}: module {shown(kind)} is the model's own Python code, which bertq does not "
            f"run: it knows {_KNOWN}"
        )
    name = kind.rpartition(".")[2]
    return name if name.isidentifier() else shown(name)


def _folder(module: Any, path: Path) -> Path:
    name = module.get("path", "")
    if not isinstance(name, str) or not _is_inside(name):
        raise BrokenFile(
            f"{path}: the path of a module is {shown(name)}, not a folder inside the model's "
            "directory"
        )
    return path.parent / name


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file or folder below the one that it is read in."""
    path = Path(name)
    known = name.isprintable() and all(len(part.encode()) <= 255 for part in path.parts)
    return known and len(name) < 1000 and not path.is_absolute() and ".." not in path.parts


def _modes(config: dict[str, Any], path: Path) -> tuple[str, ...]:
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


def _activation(name: Any, path: Path) -> str:
    found = None
    if isinstance(name, str) and name.startswith("torch.nn."):
        found = _ACTIVATIONS.get(name.rpartition(".")[2])
    if found is None:
        raise UnsupportedModel(
            f"{path}: activation {shown(name)} is unknown: bertq knows torch's "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return found


def _prompts(about: dict[str, Any], path: Path) -> tuple[dict[str, str], str | None]:
    prompts = about.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        name.isprintable() and (text is None or isinstance(text, str))
        for name, text in prompts.items()
    ):
        raise BadConfig(f"{path.parent}: prompts of config_sentence_transformers.json are no texts")
    texts = {name: text for name, text in prompts.items() if text is not None}
    default = about.get("default_prompt_name")
    if default is not None and not (isinstance(default, str) and default in texts):
        raise BadConfig(
            f"{path.parent}: default_prompt_name of config_sentence_transformers.json is "
            f"{shown(default)}, which is none of its prompts"
        )
    return texts, default


def _similarity(about: dict[str, Any]) -> str | None:
    name = about.get("similarity_fn_name")
    return name if name in ("cosine", "dot", "euclidean", "manhattan") else None


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label")
    if not isinstance(named, dict) or not all(key.isdecimal() and len(key) < 10 for key in named):
        return ()
    return tuple(str(named[key]) for key in sorted(named, key=int))


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""
