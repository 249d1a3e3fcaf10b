"""What is known of a model before it is on a device: description, tokenizer, weights."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from bertq_bert.checkpoint import Parts, Weights, read_weights
from bertq_bert.config import BertConfig, read_config
from bertq_bert.directory.layout import find_model
from bertq_bert.errors import BadLength, NoPairs
from bertq_bert.fingerprint import fingerprint
from bertq_bert.pooling import Pooling, check_dtype, plan_pooling
from bertq_bert.tokenizing.google import Tokenizer, load_tokenizer
from bertq_bert.tokenizing.sequences import Ids, Tokenized


@dataclass(frozen=True, eq=False)
class Model:
    """A model as its users see it."""

    #: base name of the model's directory
    name: str
    #: hex SHA-256 over all that changes a row
    fingerprint: str
    #: longest sequence in ids, ``[CLS]`` and ``[SEP]`` counted
    max_seq_len: int
    #: most rows in one batch
    max_batch_size: int
    #: as asked for, one of ``POOLING_STRATEGIES``
    pooling_strategy: str
    #: layers that are read, -1 the last
    pooling_layers: tuple[int, ...]
    #: dtype of the dense layers; rows are float32
    dtype: str
    #: shape of one row: (dim,), or (tokens, dim) for NONE, where tokens is ``max_seq_len``,
    #: or None for the longest of the call if the length is not fixed
    row_shape: tuple[int | None, ...]
    #: tokens of the embedding table: valid ids are below it
    vocab_size: int
    tokenizer: Tokenizer = field(repr=False)
    #: kinds of segment that it was trained with: a pair needs two
    segments: int
    #: whether tokens that the caller made get no ``[CLS]`` and ``[SEP]``
    no_special_token: bool

    def tokenize(
        self,
        texts: Sequence[str] | Sequence[Sequence[str]],
        *,
        is_tokenized: bool = False,
        truncate: str = "right",
    ) -> Tokenized:
        """Ids of each text, or of the tokens of each, at most ``max_seq_len`` of them.

        Args:
            texts: sentences, pairs of them as ``first ||| second``; or lists of tokens, a pair with
                a token ``|||`` in between.
            is_tokenized: whether they are lists of tokens, which are looked up as they are.
            truncate: the end that is cut, ``"right"`` or ``"left"``.

        Raises:
            NoPairs: there is a pair, and the model has one kind of segment.
        """
        if is_tokenized:
            found = self.tokenizer.look_up(
                texts, self.max_seq_len, truncate=truncate, bare=self.no_special_token
            )
        else:
            plain = cast(Sequence[str], texts)
            found = self.tokenizer.encode(plain, self.max_seq_len, truncate=truncate)
        if self.segments < 2:
            for number, row in enumerate(found.ids):
                if isinstance(row, Ids) and row.second < len(row):
                    raise NoPairs(
                        f"row {number} is a pair of sentences, and this model has one kind of "
                        "segment (type_vocab_size 1)"
                    )
        return found

    def tokens(self, ids: Sequence[Sequence[int]]) -> list[list[str]]:
        """The tokens that rows of ids stand for, ``[CLS]`` and ``[SEP]`` included."""
        return [self.tokenizer.tokens(row) for row in ids]


@dataclass(frozen=True, eq=False)
class Source:
    """All that an ``Encoder`` is built from, in main memory."""

    #: what it will be
    model: Model
    #: hyper-parameters
    config: BertConfig
    #: variables by Google's names
    weights: Weights = field(repr=False)
    #: what the graph has to return
    pooling: Pooling


def read_source(
    model_dir: str | os.PathLike[str],
    *,
    tuned_model_dir: str | os.PathLike[str] | None = None,
    ckpt_name: str | None = None,
    config_name: str | None = None,
    max_seq_len: int | None = 25,
    max_batch_size: int = 256,
    pooling_strategy: str = "REDUCE_MEAN",
    pooling_layers: Sequence[int] = (-2,),
    num_labels: int | None = None,
    dtype: str = "float32",
    cased: bool | None = None,
    mask_cls_sep: bool = False,
    no_special_token: bool = False,
    no_position_embeddings: bool = False,
) -> Source:
    """Read a model from a directory in Google's or Hugging Face's layout.

    Whatever can be wrong with it or with an option comes out here. TensorFlow is imported for
    Google's checkpoints only, and no device is touched.

    Args:
        model_dir: Google: ``bert_config.json``, ``vocab.txt``, ``bert_model.ckpt.*``. Hugging Face:
            ``config.json``, ``model.safetensors``, ``vocab.txt`` or ``tokenizer.json``.
        tuned_model_dir: where the weights are, if not in ``model_dir``: fine-tuned ones.
        ckpt_name, config_name: names of the checkpoint and of the config, where they are not the
            usual ones.
        max_seq_len: longest sequence in ids, ``[CLS]`` and ``[SEP]`` counted; None: the model's own
            limit.
        max_batch_size: most rows that run at once.
        pooling_strategy, pooling_layers: one of ``POOLING_STRATEGIES``, over these encoder layers
            (-1 the last), concatenated. Layers above the highest are not computed.
        num_labels: of a fine-tuned head (``CLASSIFICATION``, ``REGRESSION``); None takes it from
            the checkpoint.
        dtype: one of ``DTYPES``, for the dense layers.
        cased: whether upper case is kept; None finds it out (``load_tokenizer``).
        mask_cls_sep: leave the ``[CLS]`` and ``[SEP]`` that were added out of the pooling over
            tokens.
        no_special_token: add none to what comes as tokens.
        no_position_embeddings: add no position to the tokens; ``max_seq_len`` has no limit then.

    Raises:
        ModelError: one of its subclasses, for whatever is wrong with the directory or an option.
    """
    check_dtype(dtype)
    files = find_model(
        model_dir,
        tuned_model_dir=tuned_model_dir,
        ckpt_name=ckpt_name,
        config_name=config_name,
    )
    config = read_config(files.config)
    pooling = plan_pooling(
        pooling_strategy,
        pooling_layers,
        config.num_hidden_layers,
        num_labels=num_labels,
        mask_cls_sep=mask_cls_sep,
    )
    positions = not no_position_embeddings
    length = _sequence_length(max_seq_len, config, positions=positions)
    if max_batch_size < 1:
        raise BadLength(f"max_batch_size is {max_batch_size}: give at least 1")
    tokenizer = load_tokenizer(files.directory, cased=cased, embeddings=config.vocab_size)
    parts = Parts(pooling.needs_pooler, pooling.has_head, num_labels, positions)
    weights = read_weights(files, config, parts)
    if pooling.has_head:
        pooling = replace(pooling, num_labels=len(weights["output_bias"]))
    model = _describe(
        files.name,
        config,
        weights,
        tokenizer,
        pooling,
        max_seq_len=length,
        fixed_length=max_seq_len is not None,
        max_batch_size=max_batch_size,
        pooling_strategy=pooling_strategy,
        dtype=dtype,
        no_special_token=no_special_token,
    )
    return Source(model, config, weights, pooling)


def _describe(
    name: str,
    config: BertConfig,
    weights: Weights,
    tokenizer: Tokenizer,
    pooling: Pooling,
    *,
    max_seq_len: int,
    fixed_length: bool,
    max_batch_size: int,
    pooling_strategy: str,
    dtype: str,
    no_special_token: bool,
) -> Model:
    """Return what users see of a model, with its fingerprint."""
    digest = fingerprint(
        weights,
        config,
        tokenizer,
        pooling,
        max_seq_len=max_seq_len,
        fixed_length=fixed_length,
        no_special_token=no_special_token,
        dtype=dtype,
    )
    per_token = (max_seq_len if fixed_length else None,) if pooling.per_token else ()
    return Model(
        name=name,
        fingerprint=digest,
        max_seq_len=max_seq_len,
        max_batch_size=max_batch_size,
        pooling_strategy=pooling_strategy,
        pooling_layers=pooling.layers,
        dtype=dtype,
        row_shape=(*per_token, pooling.width(config.hidden_size)),
        vocab_size=config.vocab_size,
        tokenizer=tokenizer,
        segments=config.type_vocab_size,
        no_special_token=no_special_token,
    )


def _sequence_length(asked: int | None, config: BertConfig, *, positions: bool) -> int:
    limit = config.max_position_embeddings
    length = limit if asked is None else asked
    if length >= 3 and not positions:
        return length
    if not 3 <= length <= limit:
        raise BadLength(
            f"max_seq_len is {length}: give 3 (a token between [CLS] and [SEP]) to {limit}, "
            f"the model's max_position_embeddings"
        )
    return length
