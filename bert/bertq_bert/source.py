"""What is known of a model before it is on a device: description, tokenizer, weights."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from bertq_bert.checkpoint import Weights, read_weights
from bertq_bert.config import BertConfig, read_config
from bertq_bert.errors import BadLength
from bertq_bert.fingerprint import fingerprint
from bertq_bert.layout import find_model
from bertq_bert.pooling import Pooling, check_dtype, plan_pooling
from bertq_bert.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True, eq=False)
class Model:
    """A model as its users see it."""

    #: base name of the model's directory
    name: str
    #: hex SHA-256 over all that changes a row
    fingerprint: str
    #: longest sequence in ids, `[CLS]` and `[SEP]` counted
    max_seq_len: int
    #: False where `max_seq_len=None` was asked for
    fixed_length: bool
    #: most rows in one batch
    max_batch_size: int
    #: as asked for, one of `POOLING_STRATEGIES`
    pooling_strategy: str
    #: layers that are read, -1 the last
    pooling_layers: tuple[int, ...]
    #: dtype of the dense layers; rows are float32
    dtype: str
    #: shape of one row: (dim,), or (tokens, dim) for NONE, where tokens is `max_seq_len`,
    #: or None for the longest of the call if the length is not fixed
    row_shape: tuple[int | None, ...]
    #: tokens of the embedding table: valid ids are below it
    vocab_size: int
    tokenizer: Tokenizer = field(repr=False)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text with `[CLS]` and `[SEP]`, cut on the right to `max_seq_len`."""
        return self.tokenizer.encode(texts, self.max_seq_len)

    def wordpieces(self, texts: Sequence[str]) -> list[list[str]]:
        """The tokens that the rows of `texts` are made of: `tokenize` as strings."""
        return [self.tokenizer.tokens(ids) for ids in self.tokenize(texts)]


@dataclass(frozen=True, eq=False)
class Source:
    """All that an `Encoder` is built from, in main memory."""

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
    max_seq_len: int | None = 25,
    max_batch_size: int = 256,
    pooling_strategy: str = "REDUCE_MEAN",
    pooling_layers: Sequence[int] = (-2,),
    dtype: str = "float32",
) -> Source:
    """Read a model from a directory in Google's or Hugging Face's layout.

    Whatever can be wrong with it or with an option comes out here. TensorFlow is imported for
    Google's checkpoints only, and no device is touched.

    Parameters
    ----------
    model_dir
        Google: `bert_config.json`, `vocab.txt`, `bert_model.ckpt.*`. Hugging Face:
        `config.json`, `model.safetensors`, `vocab.txt` or `tokenizer.json`.
    max_seq_len
        Longest sequence in ids, `[CLS]` and `[SEP]` counted; None: the model's own limit.
    max_batch_size
        Most rows that run at once.
    pooling_strategy, pooling_layers
        One of `POOLING_STRATEGIES`, over these encoder layers (-1 the last), concatenated.
        Layers above the highest are not computed.
    dtype
        One of `DTYPES`, for the dense layers.

    Raises
    ------
    ModelError
        One of its subclasses, for whatever is wrong with the directory or an option.
    """
    check_dtype(dtype)
    files = find_model(model_dir)
    config = read_config(files.config)
    pooling = plan_pooling(pooling_strategy, pooling_layers, config.num_hidden_layers)
    length = _sequence_length(max_seq_len, config)
    if max_batch_size < 1:
        raise BadLength(f"max_batch_size is {max_batch_size}: give at least 1")
    tokenizer = load_tokenizer(files.directory, embeddings=config.vocab_size)
    weights = read_weights(files, config, pooler=pooling.needs_pooler)
    digest = fingerprint(
        weights,
        config,
        tokenizer,
        pooling,
        max_seq_len=length,
        fixed_length=max_seq_len is not None,
        dtype=dtype,
    )
    per_token = (None if max_seq_len is None else length,) if pooling.per_token else ()
    model = Model(
        name=files.name,
        fingerprint=digest,
        max_seq_len=length,
        fixed_length=max_seq_len is not None,
        max_batch_size=max_batch_size,
        pooling_strategy=pooling_strategy,
        pooling_layers=pooling.layers,
        dtype=dtype,
        row_shape=(*per_token, pooling.width(config.hidden_size)),
        vocab_size=config.vocab_size,
        tokenizer=tokenizer,
    )
    return Source(model, config, weights, pooling)


def _sequence_length(asked: int | None, config: BertConfig) -> int:
    limit = config.max_position_embeddings
    length = limit if asked is None else asked
    if not 3 <= length <= limit:
        raise BadLength(
            f"max_seq_len is {length}: give 3 (a token between [CLS] and [SEP]) to {limit}, "
            f"the model's max_position_embeddings"
        )
    return length
