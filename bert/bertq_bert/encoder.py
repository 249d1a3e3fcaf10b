"""One loaded model: texts in, rows out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bertq_bert.checkpoint import Array
from bertq_bert.errors import BadIds
from bertq_bert.source import Model, Source, read_source

if TYPE_CHECKING:
    from bertq_bert.graph import Graph

#: Attention needs memory for rows * longest^2 scores per head: what one batch may have of
#: them, which 256 rows reach at 181 tokens (400 MB of scores at 12 heads).
_MAX_SCORES = 2**23


@dataclass(frozen=True, eq=False)
class Encoder(Model):
    """A model on one device. Safe to use from many threads."""

    _graph: "Graph" = field(repr=False)

    @classmethod
    def build(cls, source: Source) -> "Encoder":
        """Put a model on the device that TensorFlow sees; imports TensorFlow."""
        from bertq_bert.graph import Graph

        graph = Graph(source.config, source.weights, source.pooling, source.model.dtype)
        return cls(**vars(source.model), _graph=graph)

    def encode(self, texts: Sequence[str]) -> Array:
        """Rows of `texts`, in their order: float32 [len(texts), *row_shape]."""
        return self.compute(self.tokenize(texts))

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


def load_encoder(model_dir: str | os.PathLike[str], **options: Any) -> Encoder:
    """Read a model and build its graph: `Encoder.build` of `read_source`, with its options."""
    return Encoder.build(read_source(model_dir, **options))


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
