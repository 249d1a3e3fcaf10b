"""Reads the settings of classifiers of texts, for example cross-encoders."""

from pathlib import Path
from typing import Any

from bertq_bert.config import shown
from bertq_bert.directory.description import Description
from bertq_bert.directory.modules import read_activation
from bertq_bert.directory.prompts import read_prompts
from bertq_bert.directory.settings import read_length, read_settings
from bertq_bert.errors import UnsupportedModel


def is_classifier(config: dict[str, Any]) -> bool:
    """Return whether a ``config.json`` is that of a classifier of texts."""
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    return name.endswith("ForSequenceClassification")


def read_classifier(
    directory: Path, about: dict[str, Any], config: dict[str, Any], origin: str
) -> Description:
    """Read the settings of a cross-encoder or another classifier of texts.

    Args:
        directory: the directory of the model.
        about: the contents of ``config_sentence_transformers.json``.
        config: the contents of ``config.json``.
        origin: the file that describes the model as a classifier, for messages.

    Raises:
        UnsupportedModel: an activation is unknown, or a prompt is the default.
        BadConfig: a setting is not valid.
    """
    nested = config.get("sentence_transformers")
    named = (
        about.get("activation_fn")
        or (nested.get("activation_fn") if isinstance(nested, dict) else None)
        or config.get("sbert_ce_default_activation_function")
    )
    prompts, default = read_prompts(about, directory / "config_sentence_transformers.json")
    if default is not None and prompts[default]:
        raise UnsupportedModel(
            f"{directory}: default_prompt_name of config_sentence_transformers.json is "
            f"{shown(default)}: bertq runs cross-encoders without prompts"
        )
    return Description(
        transformer=directory,
        task="score",
        origin=origin,
        activation=None if named is None else read_activation(named, directory / "config.json"),
        max_seq_len=read_length(directory, read_settings(directory)),
        prompts=prompts,
        default_prompt=default,
        labels=_labels(config),
    )


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the labels, in the order of their ids; empty if there are no names."""
    named = config.get("id2label")
    if not isinstance(named, dict) or not all(key.isdecimal() and len(key) < 10 for key in named):
        return ()
    return tuple(str(named[key]) for key in sorted(named, key=int))
