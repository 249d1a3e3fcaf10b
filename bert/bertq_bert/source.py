"""Reads a model from its directory: network, tokenizer, weights, and the meaning of its rows."""

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
        config = replace(config, max_position_embeddings=length)  # more need no table
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
    model = source.model  # the file of ranges names its fingerprint
    ranges = read_ranges(int8_ranges, model.fingerprint, model.row_shape[-1], model.task)
    source = replace(source, model=replace(model, int8_ranges=ranges))
    return _with_fingerprint(source, is_fixed_length)


def _check_options(dtype: str, compat: str | None, max_batch_size: int) -> None:
    """Refuse options that no model can be run with."""
    check_dtype(dtype)
    if compat not in (None, BERT_AS_SERVICE):
        raise BadOption(f"compat is {compat!r}: give {BERT_AS_SERVICE!r}, or leave it out")
    if max_batch_size < 1:
        raise BadLength(f"max_batch_size is {max_batch_size}: give at least 1")


def _check_positions(family: Family, config: NetworkConfig, no_position_embeddings: bool) -> None:
    """Refuse ``no_position_embeddings`` for a network with rotary positions."""
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
    """Read the weights of the network and of its modules; complete the plan of a classifier."""
    weights = read_weights(files, family, config, parts)
    if pooling.has_labels:
        num_labels = len(weights["output_bias"])
        default = "sigmoid" if num_labels == 1 else "identity"
        pooling = replace(pooling, num_labels=num_labels, activation=pooling.activation or default)
    return weights | read_module_weights(description, pooling), pooling


def _with_fingerprint(source: Source, is_fixed_length: bool) -> Source:
    """Return the source with the fingerprint of its model."""
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
    """List the options that override the directory; warn if it has settings of its own."""
    overrides = [f"{name} {value!r}" for name, value in options.items() if value is not None]
    if overrides and description is not None:
        log.warning(
            "%s: the model's %s is overridden by %s: its vectors may not be those of its authors",
            description.transformer, description.origin, ", ".join(overrides),
        )  # fmt: skip
    return overrides
