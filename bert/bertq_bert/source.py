"""Reads a model from its directory: network, tokenizer, weights, and the meaning of its rows."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertq_bert.checkpoint import Array, Parts, Safetensors, Variable, Weights, read_weights
from bertq_bert.config import NetworkConfig, read_json
from bertq_bert.directory.layout import (
    Layout,
    ModelFiles,
    find_directory,
    find_model,
    find_module_weights,
)
from bertq_bert.directory.sentence_transformers import Description, read_description
from bertq_bert.errors import (
    BadConfig,
    BadLength,
    BadOption,
    BrokenFile,
    ModelError,
)
from bertq_bert.families import read_config
from bertq_bert.fingerprint import fingerprint
from bertq_bert.model import Model
from bertq_bert.pooling import Pooling, Step, check_dtype, plan_pooling
from bertq_bert.tokenizing.base import Tokenizer
from bertq_bert.tokenizing.google import load_tokenizer
from bertq_bert.tokenizing.shipped import load_shipped

log = logging.getLogger("bertq.model")

#: The defaults of bert-as-service.
STRATEGY, LAYERS, LENGTH = "REDUCE_MEAN", (-2,), 25

#: Value of ``compat`` that selects bert-as-service's defaults and tokenizer.
BERT_AS_SERVICE = "bert-as-service"


@dataclass(frozen=True, eq=False)
class Source:
    """All that an ``Encoder`` is built from, in main memory."""

    #: the model that the encoder will be
    model: Model
    #: hyper-parameters
    config: NetworkConfig
    #: variables by our names
    weights: Weights = field(repr=False)
    #: the plan for the graph's rows
    pooling: Pooling


def read_source(
    model_dir: str | os.PathLike[str],
    *,
    tuned_model_dir: str | os.PathLike[str] | None = None,
    ckpt_name: str | None = None,
    config_name: str | None = None,
    compat: str | None = None,
    max_seq_len: int | str | None = None,
    max_batch_size: int = 256,
    pooling_strategy: str | None = None,
    pooling_layers: Sequence[int] | None = None,
    num_labels: int | None = None,
    dtype: str = "float32",
    cased: bool | None = None,
    mask_cls_sep: bool = False,
    no_special_token: bool = False,
    no_position_embeddings: bool = False,
    int8_ranges: str | os.PathLike[str] | None = None,
) -> Source:
    """Read a model from a directory: sentence-transformers', Hugging Face's or Google's.

    A directory with ``modules.json`` or with a classifier decides how a text becomes a row; options
    override it, with one warning in the log. Other directories get the defaults of bert-as-service.
    This function reports every error in the directory or in an option. It imports TensorFlow for
    Google's checkpoints only, and uses no device.

    Args:
        model_dir: Google: ``bert_config.json``, ``vocab.txt``, ``bert_model.ckpt.*``. Others:
            ``config.json``, ``model.safetensors``, ``tokenizer.json`` or ``vocab.txt``, and the
            files of sentence-transformers.
        tuned_model_dir: where the weights are, if not in ``model_dir``: fine-tuned ones.
        ckpt_name, config_name: names of the checkpoint and of the config, where they are not the
            usual ones.
        compat: ``"bert-as-service"``: its defaults and tokenizer for any directory.
        max_seq_len: longest sequence in ids, special tokens counted; ``"none"``: the network's own
            limit; None: the directory decides, or it is 25.
        max_batch_size: most rows that run at once.
        pooling_strategy, pooling_layers: one of ``POOLING_STRATEGIES``, over these encoder layers
            (-1 the last), concatenated. Layers above the highest are not computed. None: the
            directory decides, or it is REDUCE_MEAN of -2.
        num_labels: of a fine-tuned head (``CLASSIFICATION``, ``REGRESSION``); None takes it from
            the checkpoint.
        dtype: one of ``DTYPES``, for the dense layers.
        cased: whether upper case is kept; None: the files decide.
        mask_cls_sep: leave the special tokens that were added out of the pooling over tokens.
        no_special_token: add no special tokens to lists of tokens.
        no_position_embeddings: add no position to the tokens; ``max_seq_len`` has no limit then.
        int8_ranges: a JSON file with the least and the greatest value of each column of the rows,
            ``{"ranges": [[...], [...]]}``: needed for int8 and uint8 rows.

    Raises:
        ModelError: one of its subclasses, if the directory or an option cannot be used.
    """
    check_dtype(dtype)
    if compat not in (None, BERT_AS_SERVICE):
        raise BadOption(f"compat is {compat!r}: give {BERT_AS_SERVICE!r}, or leave it out")
    if max_batch_size < 1:
        raise BadLength(f"max_batch_size is {max_batch_size}: give at least 1")
    root = find_directory(model_dir)
    description = None if compat else read_description(root)
    files = find_model(
        root if description is None else description.transformer,
        tuned_model_dir=tuned_model_dir,
        ckpt_name=ckpt_name,
        config_name=config_name,
    )
    if files.layout is Layout.GOOGLE:
        description = None
    family, config = read_config(files.config)
    if no_position_embeddings and config.rotary:
        raise BadOption(
            f"no_position_embeddings has no meaning for {family.name} models, whose positions are "
            "rotary: leave it out"
        )
    pooling = _plan(description, pooling_strategy, pooling_layers, config, num_labels, mask_cls_sep)
    overridden = _overrides(
        description,
        pooling_strategy=pooling_strategy,
        pooling_layers=pooling_layers,
        max_seq_len=max_seq_len,
        mask_cls_sep=mask_cls_sep or None,
        cased=cased,
        no_position_embeddings=no_position_embeddings or None,
    )
    asked = _length(max_seq_len, description)
    tokenizer = _load_tokenizer(files, description, config, cased)
    least = tokenizer.template.size + 1
    if max_seq_len is None:
        length = _own_length(asked, least, config, files, positions=not no_position_embeddings)
    else:
        length = _asked_length(asked, least, config, positions=not no_position_embeddings)
    if config.rotary:
        config = replace(config, max_position_embeddings=length)  # more need no table
    parts = Parts(
        pooler=pooling.modes == ("pooler",),
        classifier=pooling.has_labels,
        num_labels=num_labels,
        masked_lm=pooling.sparse,
        positions=not (no_position_embeddings or config.rotary),
    )
    weights = read_weights(files, family, config, parts)
    if pooling.has_labels:
        labels = len(weights["output_bias"])
        default = "sigmoid" if labels == 1 else "identity"
        activation = pooling.activation or default
        pooling = replace(pooling, num_labels=labels, activation=activation)
    weights |= _module_weights(description, pooling, config)
    fixed = isinstance(max_seq_len, int) or (max_seq_len is None and description is None)
    per_token = (length if fixed else None,) if pooling.per_token else ()
    row_shape = (*per_token, pooling.width(config.hidden_size, config.vocab_size))
    given = description or Description(files.directory, "embed", BERT_AS_SERVICE)
    name = files.name if description is None else root.name
    digest = partial(
        fingerprint,
        weights,
        config,
        tokenizer,
        pooling,
        max_seq_len=length,
        fixed_length=fixed,
        no_special_token=no_special_token,
        dtype=dtype,
        prompts=dict(given.prompts),
        default_prompt=given.default_prompt,
    )
    ranges = None
    if int8_ranges is not None:
        ranges = read_ranges(int8_ranges, digest(ranges=None), row_shape[-1], pooling.task)
    model = Model(
        name=name,
        fingerprint=digest(ranges=ranges),
        max_seq_len=length,
        max_batch_size=max_batch_size,
        pooling_strategy=pooling_strategy or _strategy(description, pooling),
        pooling_layers=pooling.layers,
        dtype=dtype,
        row_shape=row_shape,
        vocab_size=config.vocab_size,
        tokenizer=tokenizer,
        segments=config.type_vocab_size,
        no_special_token=no_special_token,
        task=pooling.task,
        normalized=pooling.normalized,
        prompts=given.prompts,
        default_prompt=given.default_prompt,
        include_prompt=pooling.include_prompt,
        similarity=given.similarity,
        labels=given.labels if len(given.labels) == pooling.num_labels else (),
        splits_pairs=description is None,
        int8_ranges=ranges,
        origin=f"{given.origin} and options" if overridden else given.origin,
        modules=tuple(map(str, pooling.steps)),
    )
    return Source(model, config, weights, pooling)


def read_ranges(path: str | os.PathLike[str], model: str, width: int | None, task: str) -> Array:
    """Read the ranges of int8 rows: float32 [2, dim], the least and the greatest values.

    Args:
        path: the file.
        model: fingerprint of the model without ranges.
        width: numbers in its rows, which may be shortened.
        task: the model's task.

    Raises:
        MissingFile, BrokenFile: the file is not there, or not of that form.
        BadOption: it is another model's, or the model has no int8 rows.
    """
    if task != "embed":
        raise BadOption(
            f"int8_ranges is for vectors, and this model gives {task} rows: leave it out"
        )
    document = read_json(Path(path))
    raw, made_with = document.get("ranges"), document.get("model", model)
    try:
        ranges = np.asarray(raw, np.float32)
    except (TypeError, ValueError):
        ranges = np.zeros(0, np.float32)
    if ranges.ndim != 2 or len(ranges) != 2 or not np.isfinite(ranges).all():
        raise BrokenFile(
            f'{path} has no "ranges" of two lists of numbers, as bertq int8-ranges writes them'
        )
    if (ranges[0] > ranges[1]).any():
        raise BrokenFile(f"{path}: a least value in ranges is above the greatest one")
    if made_with != model or ranges.shape[1] > (width or 0):
        raise BadOption(
            f"{path} has ranges of {ranges.shape[1]} numbers for another model or other settings "
            "than these: make one with bertq int8-ranges and a worker without --int8-ranges"
        )
    return ranges


def _plan(
    description: Description | None,
    strategy: str | None,
    layers: Sequence[int] | None,
    config: NetworkConfig,
    num_labels: int | None,
    mask_cls_sep: bool,
) -> Pooling:
    """Plan the pooling: the directory's settings, overridden by the options."""
    depth = config.num_hidden_layers
    if description is None or strategy is not None:
        own = (-1,) if description is not None else LAYERS
        plan = plan_pooling(
            strategy or STRATEGY,
            own if layers is None else layers,
            depth,
            num_labels=num_labels,
            mask_cls_sep=mask_cls_sep,
        )
        if description is None or plan.task != "embed" or plan.per_token:
            return plan
        plan = replace(plan, include_prompt=description.include_prompt)
        return _with_steps(plan, description, config)
    if description.task == "score":
        if layers is not None:
            raise BadOption(
                "pooling_layer has no meaning for a classifier: leave it out, or give a "
                "pooling_strategy for vectors"
            )
        plan = plan_pooling("CLASSIFICATION", (-1,), depth, num_labels=num_labels)
        return replace(plan, activation=description.activation or "")
    name = "SPLADE_MAX" if description.task == "sparse" else "+".join(description.modes)
    plan = plan_pooling(
        name, (-1,) if layers is None else layers, depth, num_labels=num_labels,
        mask_cls_sep=mask_cls_sep,
    )  # fmt: skip
    if description.task == "sparse":
        return replace(plan, modes=description.modes, activation=description.activation or "relu")
    plan = replace(plan, include_prompt=description.include_prompt)
    return _with_steps(plan, description, config)


def _with_steps(plan: Pooling, description: Description, config: NetworkConfig) -> Pooling:
    """The plan with the directory's modules after the pooling, if they fit."""
    steps = [step for step, _ in description.steps]
    normalized = bool(steps) and steps[-1].kind == "normalize"
    if normalized:
        steps.pop()
    width = plan.width(config.hidden_size)
    for step in steps:
        if step.inputs is not None and step.inputs != width:
            raise BadConfig(
                f"{dict(description.steps)[step] / 'config.json'}: the module takes rows of "
                f"{step.inputs} numbers, and gets {width}"
            )
        width = step.outputs or width
    return replace(plan, steps=tuple(steps), normalized=normalized)


def _strategy(description: Description | None, pooling: Pooling) -> str:
    if description is None:
        return STRATEGY
    return {"score": "CLASSIFICATION", "sparse": pooling.modes[0].upper()}.get(
        pooling.task, "+".join(pooling.modes)
    )


def _overrides(description: Description | None, **options: object) -> bool:
    """Return whether options override the directory; warn if they do."""
    given = [f"{name} {value!r}" for name, value in options.items() if value is not None]
    if not given:
        return False
    if description is None:
        return True
    log.warning(
        "%s: the model's %s is overridden by %s: its vectors may not be those of its authors",
        description.transformer, description.origin, ", ".join(given),
    )  # fmt: skip
    return True


def _length(asked: int | str | None, description: Description | None) -> int | None:
    """The longest sequence that is asked for; None for the network's own limit."""
    if isinstance(asked, str):
        if asked != "none":
            raise BadLength(f"max_seq_len is {asked!r}: give a number, or 'none' for no limit")
        return None
    if asked is not None:
        return asked
    return LENGTH if description is None else description.max_seq_len


def _own_length(
    named: int | None, least: int, config: NetworkConfig, files: ModelFiles, *, positions: bool
) -> int:
    """The longest sequence in ids, by the directory: no longer than the network takes."""
    limit = config.max_position_embeddings
    length = limit if named is None else named
    if config.rotary:
        limit = config.rotary[0].longest or length  # as sentence-transformers, which lets it be
    if positions:
        length = min(length, limit)
    if length < least:
        raise BadConfig(
            f"{files.config}: the longest sequence is {length} tokens, and the tokenizer needs "
            f"{least}"
        )
    return length


def _asked_length(asked: int | None, least: int, config: NetworkConfig, *, positions: bool) -> int:
    """The longest sequence in ids, by an option."""
    limit = config.max_position_embeddings
    length = limit if asked is None else asked
    if length >= least and not positions:
        return length
    if not least <= length <= limit:
        raise BadLength(
            f"max_seq_len is {length}: give {least} (a token between [CLS] and [SEP]) to {limit}, "
            f"the model's max_position_embeddings"
        )
    return length


def _load_tokenizer(
    files: ModelFiles, description: Description | None, config: NetworkConfig, cased: bool | None
) -> Tokenizer:
    """The tokenizer of the directory; Google's for bert-as-service's models."""
    directory, words = files.directory, config.vocab_size
    if description is not None:
        return load_shipped(directory, lower=description.lower, cased=cased, embeddings=words)
    if config.family == "BERT":
        # a damaged WordPiece vocabulary is an error; any other kind is used as shipped
        if files.layout is Layout.GOOGLE or (directory / "vocab.txt").is_file():
            return load_tokenizer(directory, cased=cased, embeddings=words)
        if _is_wordpiece(directory / "tokenizer.json"):
            return load_tokenizer(directory, cased=cased, embeddings=words)
    return load_shipped(directory, cased=cased, embeddings=words)


def _is_wordpiece(path: Path) -> bool:
    try:
        model: Any = json.loads(path.read_text(encoding="utf-8"))["model"]["type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # the loader reports the error
    return bool(model == "WordPiece")


def _module_weights(
    description: Description | None, pooling: Pooling, config: NetworkConfig
) -> Weights:
    """The weights of the modules after the pooling, ``modules/NUMBER/...``."""
    found: Weights = {}
    folders = dict(description.steps) if description else {}
    for step in pooling.steps:
        wanted = _module_variables(step)
        if wanted:
            checkpoint = Safetensors(find_module_weights(folders[step]))
            found |= {variable.name: checkpoint.load(variable) for variable in wanted}
    return found


def _module_variables(step: Step) -> list[Variable]:
    at, inputs, outputs = f"modules/{step.number}", step.inputs or 0, step.outputs or 0
    if step.kind == "normalize":
        return []
    if step.kind == "layer_norm":
        return [
            Variable(f"{at}/gamma", ("norm.weight",), (outputs,)),
            Variable(f"{at}/beta", ("norm.bias",), (outputs,)),
        ]
    kernel = Variable(f"{at}/kernel", ("linear.weight",), (inputs, outputs))
    bias = Variable(f"{at}/bias", ("linear.bias",), (outputs,))
    return [kernel, bias] if step.kind == "dense" else [kernel]


__all__ = ["Model", "ModelError", "Source", "read_ranges", "read_source"]
