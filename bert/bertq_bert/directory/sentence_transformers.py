"""Reads the files that sentence-transformers adds to a model: modules, pooling, length, prompts.

There are two forms of these files: that of versions 2 to 5, which nearly all models on the hub
have, and that of versions since 5.4.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bertq_bert.config import read_json, read_json_value, shown
from bertq_bert.directory.classifier import is_classifier, read_classifier
from bertq_bert.directory.description import Description
from bertq_bert.directory.modules import Module, read_modes, read_module, read_step
from bertq_bert.directory.prompts import read_prompts, read_similarity
from bertq_bert.directory.settings import (
    read_boolean,
    read_length,
    read_optional,
    read_settings,
    settings_file,
)
from bertq_bert.errors import BrokenFile, UnsupportedModel


def read_description(directory: Path) -> Description | None:
    """Read the files that sentence-transformers or transformers added to a model.

    Returns:
        The settings; None if the directory has neither ``modules.json`` nor a classifier.

    Raises:
        UnsupportedModel: a module, a mode or an activation is unknown; the message names it.
        BadConfig, BrokenFile, MissingFile: a file is damaged or missing, or lacks a value.
    """
    path = directory / "modules.json"
    if path.is_file():
        return _read_modules(path)
    config = read_optional(directory / "config.json")
    if is_classifier(config):
        return read_classifier(directory, {}, config, "config.json")
    return None


def _read_modules(path: Path) -> Description:
    """Read ``modules.json`` and the files of the modules."""
    entries = read_json_value(path)
    if not isinstance(entries, list) or not entries:
        raise BrokenFile(f"{path} is not a list of modules")
    first, *others = [read_module(entry, number, path) for number, entry in enumerate(entries)]
    if first.kind not in ("Transformer", "MLMTransformer"):
        raise UnsupportedModel(
            f"{path}: the first module is {first.kind}: bertq runs models that begin with "
            "Transformer"
        )
    about = _read_about(path.parent)
    settings = read_settings(first.folder)
    task = settings.get("transformer_task", "feature-extraction")
    if about.get("model_type") == "CrossEncoder" or task == "sequence-classification":
        if others:
            raise UnsupportedModel(
                f"{path}: module {others[0].kind} follows a classifier: bertq runs cross-encoders "
                "without further modules"
            )
        config = read_optional(first.folder / "config.json")
        return read_classifier(first.folder, about, config, "modules.json")
    if task not in ("feature-extraction", "fill-mask"):
        raise UnsupportedModel(f"{path}: transformer_task {shown(task)} is not supported")
    prompts, default = read_prompts(about, path)
    place = settings_file(first.folder) or first.folder
    description = Description(
        transformer=first.folder,
        task="embed",
        origin="modules.json",
        max_seq_len=read_length(first.folder, settings),
        lower=read_boolean(settings, "do_lower_case", place),
        prompts=prompts,
        default_prompt=default,
        similarity=read_similarity(about),
    )
    kinds = [module.kind for module in others]
    if first.kind == "MLMTransformer" or task == "fill-mask" or "SpladePooling" in kinds:
        return _add_splade_pooling(description, others, path)
    return _add_pooling(description, others, path)


def _read_about(directory: Path) -> dict[str, Any]:
    """Read ``config_sentence_transformers.json``; return an empty dict if it does not exist."""
    path = directory / "config_sentence_transformers.json"
    about = read_optional(path)
    for key in ("truncate_dim", "max_active_dims"):
        if about.get(key) is not None:
            raise UnsupportedModel(
                f"{path}: {key} is {shown(about[key])}: bertq shortens rows when a request says "
                "so: remove the key"
            )
    return about


def _add_pooling(description: Description, modules: list[Module], path: Path) -> Description:
    """Add the pooling of a model for vectors, and the modules after the pooling.

    Args:
        description: the settings to add to.
        modules: the modules after the transformer.
        path: ``modules.json``, for messages.
    """
    modules = [module for module in modules if module.kind != "Dropout"]  # only for training
    if not modules or modules[0].kind != "Pooling":
        after = modules[0].kind if modules else "nothing"
        raise UnsupportedModel(
            f"{path}: {after} follows the Transformer: bertq runs models with Pooling there"
        )
    pooling_file = modules[0].folder / "config.json"
    pooling = read_json(pooling_file)
    return replace(
        description,
        modes=read_modes(pooling, pooling_file),
        include_prompt=read_boolean(pooling, "include_prompt", pooling_file, default=True),
        steps=tuple((read_step(module, path), module.folder) for module in modules[1:]),
    )


def _add_splade_pooling(description: Description, modules: list[Module], path: Path) -> Description:
    """Add the pooling of SPLADE, which computes a weight for each token of the vocabulary.

    Args:
        description: the settings to add to.
        modules: the modules after the transformer.
        path: ``modules.json``, for messages.
    """
    kinds = [module.kind for module in modules]
    if kinds != ["SpladePooling"]:
        raise UnsupportedModel(
            f"{path}: modules {', '.join(kinds) or 'none'} follow a masked-LM network: bertq runs "
            "SpladePooling there"
        )
    pooling_file = modules[0].folder / "config.json"
    pooling = read_json(pooling_file)
    strategy = pooling.get("pooling_strategy", "max")
    activation = pooling.get("activation_function", "relu")
    if strategy not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
        raise UnsupportedModel(
            f"{pooling_file}: pooling_strategy {shown(strategy)} with activation_function "
            f"{shown(activation)} is unknown: bertq knows max and sum, relu and log1p_relu"
        )
    return replace(description, task="sparse", modes=(f"splade_{strategy}",), activation=activation)
