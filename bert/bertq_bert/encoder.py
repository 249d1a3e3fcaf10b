"""One loaded model: texts in, rows out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bertq_bert.checkpoint import Array, read_weights
from bertq_bert.config import BertConfig, read_config
from bertq_bert.errors import BadIds, BadLength
from bertq_bert.fingerprint import fingerprint
from bertq_bert.layout import find_model
from bertq_bert.pooling import check_dtype, plan_pooling
from bertq_bert.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from bertq_bert.graph import Graph

#: Attention needs memory for rows * longest^2 scores per head: what one batch may have of
#: them, which 256 rows reach at 181 tokens (400 MB of scores at 12 heads).
_MAX_SCORES = 2**23


@dataclass(frozen=True, eq=False)
class Encoder:
    """A model on one device, from `load_encoder`. Safe to use from many threads."""

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
    _tokenizer: Tokenizer = field(repr=False)
    _graph: "Graph" = field(repr=False)

    def encode(self, texts: Sequence[str]) -> Array:
        """Rows of `texts`, in their order: float32 [len(texts), *row_shape]."""
        return self.compute(self.tokenize(texts))

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text with `[CLS]` and `[SEP]`, cut on the right to `max_seq_len`."""
        return self._tokenizer.encode(texts, self.max_seq_len)

    def wordpieces(self, texts: Sequence[str]) -> list[list[str]]:
        """The tokens that the rows of `texts` are made of: `tokenize` as strings."""
        return [self._tokenizer.tokens(ids) for ids in self.tokenize(texts)]

    def compute(self, ids: Sequence[Sequence[int]]) -> Array:
        """Rows of sequences of token ids, in their order: float32 [len(ids), *row_shape].

        They run in batches of like length, of at most `max_batch_size` rows; a row does not
        depend on what it is batched with.

        Raises
        ------
        BadIds
            A sequence is empty, longer than `max_seq_len`, or names an unknown token.
        """
        lengths = np.array([len(row) for row in ids], dtype=np.int32)
        self._check(ids, lengths)
        longest = int(lengths.max(initial=0))
        rows = np.zeros(
            (len(ids), *(longest if size is None else size for size in self.row_shape)), np.float32
        )
        for batch in _batches(lengths, self.max_batch_size):
            flat = np.fromiter(chain.from_iterable(ids[row] for row in batch), np.int32)
            block = self._graph(flat, lengths[batch])
            if len(self.row_shape) == 1:
                rows[batch] = block
            else:
                rows[batch, : block.shape[1]] = block
        return rows

    def warm_up(self) -> None:
        """Run a few shapes once, so that the first request does not pay for what is set up late."""
        for rows, longest in ((1, 3), (1, self.max_seq_len), (32, 64)):
            length = min(longest, self.max_seq_len)
            self.compute([[0] * length] * min(rows, self.max_batch_size))

    def _check(self, ids: Sequence[Sequence[int]], lengths: npt.NDArray[np.int32]) -> None:
        wrong = np.flatnonzero((lengths < 1) | (lengths > self.max_seq_len))
        if wrong.size:
            raise BadIds(
                f"row {wrong[0]} has {lengths[wrong[0]]} ids: give 1 to {self.max_seq_len}"
            )
        for number, row in enumerate(ids):
            if min(row) < 0 or max(row) >= self.vocab_size:
                raise BadIds(f"row {number} has an id that is not in 0..{self.vocab_size - 1}")


def load_encoder(
    model_dir: str | os.PathLike[str],
    *,
    max_seq_len: int | None = 25,
    max_batch_size: int = 256,
    pooling_strategy: str = "REDUCE_MEAN",
    pooling_layers: Sequence[int] = (-2,),
    dtype: str = "float32",
) -> Encoder:
    """Load a model from a directory in Google's or Hugging Face's layout. Imports TensorFlow.

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
    from bertq_bert.graph import Graph  # imports TensorFlow, once the cheap refusals are through

    per_token = (None if max_seq_len is None else length,) if pooling.per_token else ()
    return Encoder(
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
        _tokenizer=tokenizer,
        _graph=Graph(config, weights, pooling, dtype),
    )


def _sequence_length(asked: int | None, config: BertConfig) -> int:
    limit = config.max_position_embeddings
    length = limit if asked is None else asked
    if not 3 <= length <= limit:
        raise BadLength(
            f"max_seq_len is {length}: give 3 (a token between [CLS] and [SEP]) to {limit}, "
            f"the model's max_position_embeddings"
        )
    return length


def _batches(lengths: npt.NDArray[np.int32], max_rows: int) -> list[npt.NDArray[np.intp]]:
    """Split rows into batches of like length, the shortest first."""
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for end in range(1, len(order) + 1):
        rows = end - start
        # would the next row be one too many?
        full = end == len(order) or rows == max_rows
        if full or (rows + 1) * int(lengths[order[end]]) ** 2 > _MAX_SCORES:
            batches.append(order[start:end])
            start = end
    return batches
