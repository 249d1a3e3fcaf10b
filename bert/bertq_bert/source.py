"""Reads a model from its directory: network, tokenizer, weights, pooling and settings."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bertq_bert.checkpoint import Weights, read_weights
from bertq_bert.config import NetworkConfig
from bertq_bert.directory.description import Description
from bertq_bert.directory.layout import Layout, ModelFiles, find_directory, find_model
from bertq_bert.directory.length import find_max_length
from bertq_bert.directory.module_weights import read_module_weights
from bertq_bert.directory.pooling_plan import name_strategy, plan_model_pooling
from bertq_bert.directory.sentence_transformers import read_description
from bertq_bert.errors import BadLength, BadOption
from bertq_bert.families import read_config
from bertq_bert.families.family import Family
from bertq_bert.fingerprint import fingerprint
from bertq_bert.model import Model
from bertq_bert.pooling import Pooling, check_dtype
from bertq_bert.quantization import read_ranges
from bertq_bert.tokenizing.loading import load_model_tokenizer
from bertq_bert.tokenizing.word_cache import remember_words
from bertq_bert.variables import Parts

log = logging.getLogger("bertq.model")

#: Value of ``compat`` that selects bert-as-service's defaults and tokenizer.
BERT_AS_SERVICE = "bert-as-service"


@dataclass(frozen=True, eq=False)
class Source:
    """The parts of an ``Encoder``, in main memory."""

    #: the settings and the tokenizer, which become those of the encoder
    model: Model
    #: hyper-parameters of the network
    config: NetworkConfig
    #: tensors by bertq's names (``families.family``)
    weights: Weights = field(repr=False)
    #: how the graph computes rows from token vectors
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
    """Read a model from a directory of sentence-transformers, Hugging Face or Google.

    If the directory has ``modules.json`` or a classifier, its settings define how a text becomes a
    row, and options override them, with one warning in the log. Any other directory gets the
    defaults of bert-as-service. This function reports every error in the directory or in an option.
    It imports TensorFlow only for Google's checkpoints, and does not use the device.

    Args:
        model_dir: a directory. Google's layout is ``bert_config.json``, ``vocab.txt`` and
            ``bert_model.ckpt.*``; the others are ``config.json``, ``model.safetensors``,
            ``tokenizer.json`` or ``vocab.txt``, and the files of sentence-transformers.
        tuned_model_dir: the directory of fine-tuned weights, if they are not in ``model_dir``.
        ckpt_name, config_name: names of the checkpoint and the config, if they are not the usual
            names.
        compat: ``"bert-as-service"`` selects its defaults and its tokenizer for any directory.
        max_seq_len: maximum token ids of a sequence, including special tokens; ``"none"``: the
            limit of the network; None: the limit of the directory, or 25 with the defaults of
            bert-as-service.
        max_batch_size: maximum rows of a batch.
        pooling_strategy, pooling_layers: one of ``POOLING_STRATEGIES``, over the concatenated
            outputs of these encoder layers (-1 is the last). Layers above the highest one are not
            computed. None: as the directory defines it, or REDUCE_MEAN of layer -2 with the
            defaults of bert-as-service.
        num_labels: number of labels of a fine-tuned head (``CLASSIFICATION``, ``REGRESSION``);
            None: as many as the checkpoint has.
        dtype: compute dtype of the dense layers, one of ``DTYPES``.
        cased: whether the tokenizer keeps upper case; None: as the files define it.
        mask_cls_sep: whether pooling over tokens ignores the added special tokens.
        no_special_token: whether lists of tokens get no special tokens.
        no_position_embeddings: whether tokens get no position embeddings; ``max_seq_len`` has no
            limit then.
        int8_ranges: a JSON file with the minimum and the maximum of each column of the rows,
            ``{"ranges": [[...], [...]]}``, which int8 and uint8 rows need.

    Raises:
        ModelError: a subclass of it, if the directory or an option cannot be used.
    """
    _check_options(dtype, compat, max_batch_size)
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
    _check_positions(family, config, no_position_embeddings)
    pooling = plan_model_pooling(
        description, pooling_strategy, pooling_layers, config,
        num_labels=num_labels, mask_cls_sep=mask_cls_sep,
    )  # fmt: skip
    overrides = _find_overrides(
        description,
        pooling_strategy=pooling_strategy,
        pooling_layers=pooling_layers,
        max_seq_len=max_seq_len,
        mask_cls_sep=mask_cls_sep or None,
        cased=cased,
        no_position_embeddings=no_position_embeddings or None,
    )
    tokenizer = remember_words(load_model_tokenizer(files, description, config, cased))
    length = find_max_length(
        max_seq_len, description, config, files.config,
        min_tokens=tokenizer.template.size + 1, has_positions=not no_position_embeddings,
    )  # fmt: skip
    if config.rotary:
        config = replace(config, max_position_embeddings=length)  # larger tables have no use
    parts = Parts(
        pooler=pooling.modes == ("pooler",),
        classifier=pooling.has_labels,
        num_labels=num_labels,
        masked_lm=pooling.sparse,
        positions=not (no_position_embeddings or config.rotary),
    )
    weights, pooling = _read_all_weights(files, family, config, parts, pooling, description)
    is_fixed_length = isinstance(max_seq_len, int) or (max_seq_len is None and description is None)
    token_axis = (length if is_fixed_length else None,) if pooling.per_token else ()
    settings = description or Description(files.directory, "embed", BERT_AS_SERVICE)
    model = Model(
        name=files.name if description is None else root.name,
        fingerprint="",
        max_seq_len=length,
        max_batch_size=max_batch_size,
        pooling_strategy=pooling_strategy or name_strategy(description, pooling),
        pooling_layers=pooling.layers,
        dtype=dtype,
        row_shape=(*token_axis, pooling.width(config.hidden_size, config.vocab_size)),
        vocab_size=config.vocab_size,
        tokenizer=tokenizer,
        segments=config.type_vocab_size,
        no_special_token=no_special_token,
        task=pooling.task,
        normalized=pooling.normalized,
        prompts=settings.prompts,
        default_prompt=settings.default_prompt,
        include_prompt=pooling.include_prompt,
        similarity=settings.similarity,
        labels=settings.labels if len(settings.labels) == pooling.num_labels else (),
        activation=pooling.activation if pooling.has_labels else None,
        splits_pairs=description is None,
        origin=f"{settings.origin} and options" if overrides else settings.origin,
        modules=tuple(map(str, pooling.steps)),
    )
    source = _with_fingerprint(Source(model, config, weights, pooling), is_fixed_length)
    if int8_ranges is None:
        return source
    model = source.model  # the file names the fingerprint of a model without ranges
    ranges = read_ranges(int8_ranges, model.fingerprint, model.row_shape[-1], model.task)
    source = replace(source, model=replace(model, int8_ranges=ranges))
    return _with_fingerprint(source, is_fixed_length)


def _check_options(dtype: str, compat: str | None, max_batch_size: int) -> None:
    """Check the options whose valid values are the same for all models.

    Raises:
        BadOption: an option is not valid; a subclass of it for some options.
    """
    check_dtype(dtype)
    if compat not in (None, BERT_AS_SERVICE):
        raise BadOption(f"compat is {compat!r}: give {BERT_AS_SERVICE!r}, or leave it out")
    if max_batch_size < 1:
        raise BadLength(f"max_batch_size is {max_batch_size}: give at least 1")


def _check_positions(family: Family, config: NetworkConfig, no_position_embeddings: bool) -> None:
    """Check that a network can run without position embeddings, if the option says so.

    Raises:
        BadOption: the positions of the network are rotary.
    """
    if no_position_embeddings and config.rotary:
        raise BadOption(
            f"no_position_embeddings has no meaning for {family.name} models, whose positions are "
            "rotary: leave it out"
        )


def _read_all_weights(
    files: ModelFiles,
    family: Family,
    config: NetworkConfig,
    parts: Parts,
    pooling: Pooling,
    description: Description | None,
) -> tuple[Weights, Pooling]:
    """Read the weights of the network and of its modules.

    Returns:
        The weights, and the pooling, with the number of labels and the activation of a classifier.
    """
    weights = read_weights(files, family, config, parts)
    if pooling.has_labels:
        num_labels = len(weights["output_bias"])
        default = "sigmoid" if num_labels == 1 else "identity"
        pooling = replace(pooling, num_labels=num_labels, activation=pooling.activation or default)
    return weights | read_module_weights(description, pooling), pooling


def _with_fingerprint(source: Source, is_fixed_length: bool) -> Source:
    """Return a copy of the source whose model has its fingerprint."""
    model = source.model
    digest = fingerprint(
        source.weights,
        source.config,
        model.tokenizer,
        source.pooling,
        ranges=model.int8_ranges,
        max_seq_len=model.max_seq_len,
        fixed_length=is_fixed_length,
        no_special_token=model.no_special_token,
        dtype=model.dtype,
        prompts=dict(model.prompts),
        default_prompt=model.default_prompt,
    )
    return replace(source, model=replace(model, fingerprint=digest))


def _find_overrides(description: Description | None, **options: object) -> list[str]:
    """List the options that are set; log a warning if they override the directory's settings."""
    overrides = [f"{name} {value!r}" for name, value in options.items() if value is not None]
    if overrides and description is not None:
        log.warning(
            "%s: the model's %s is overridden by %s: its vectors may not be those of its authors",
            description.transformer, description.origin, ", ".join(overrides),
        )  # fmt: skip
    return overrides
