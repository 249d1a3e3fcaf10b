"""One loaded model: texts in, rows out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from bertq_bert.batches import Budget, Indices
from bertq_bert.checkpoint import Array
from bertq_bert.errors import BadIds
from bertq_bert.source import Model, Source, read_source

if TYPE_CHECKING:
    from bertq_bert.graph import Graph

#: Attention needs memory for rows * longest^2 scores per head: what one batch may have of
#: them, which 256 rows reach at 181 tokens (400 MB of scores at 12 heads).
_MAX_SCORES = 2**23

#: Tokens that one batch may have.
_MAX_TOKENS = 4096


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

    @property
    def budget(self) -> Budget:
        """What one execution of the graph may have."""
        return Budget(self.max_batch_size, max(_MAX_TOKENS, self.max_seq_len), _MAX_SCORES)

    def encode(self, texts: Sequence[str]) -> Array:
        """Rows of `texts`, in their order: float32 [len(texts), *row_shape]."""
        return self.compute(self.tokenize(texts))

    def compute(self, ids: Sequence[Sequence[int]]) -> Array:
        """Rows of sequences of token ids, in their order: float32 [len(ids), *row_shape].

        They run in batches of like length within the `budget`; a row does not depend on what it
        is batched with.

        Raises
        ------
        BadIds
            A sequence is empty, longer than `max_seq_len`, or names an unknown token.
        """
        self.check(ids)
        lengths = [len(row) for row in ids]
        rows = self.blank(lengths)
        for batch in self.budget.split(lengths):
            place(rows, batch, self.run([ids[row] for row in batch]))
        return rows

    def run(self, ids: Sequence[Sequence[int]]) -> Array:
        """Rows of one batch, in its order, by one execution of the graph.

        It must be checked (`check`), not empty, and within the `budget`. float32 [len(ids), dim];
        for NONE [len(ids), tokens of the longest, dim].
        """
        lengths = np.fromiter(map(len, ids), np.int32, len(ids))
        flat = np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum()))
        return self._graph(flat, lengths)

    def blank(self, lengths: Sequence[int]) -> Array:
        """Zeros for the rows of sequences of these lengths: float32 [len(lengths), *row_shape]."""
        longest = max(lengths, default=0)
        sizes = (longest if size is None else size for size in self.row_shape)
        return np.zeros((len(lengths), *sizes), np.float32)

    def warm_up(self) -> None:
        """Run a few shapes once, so that the first request does not pay for what is set up late."""
        for rows, longest in ((1, 3), (1, self.max_seq_len), (32, 64)):
            length = min(longest, self.max_seq_len)
            self.compute([[0] * length] * min(rows, self.max_batch_size))

    def check(self, ids: Sequence[Sequence[int]]) -> None:
        """Raise `BadIds` for what the graph cannot take."""
        for number, row in enumerate(ids):
            if not 0 < len(row) <= self.max_seq_len:
                raise BadIds(f"row {number} has {len(row)} ids: give 1 to {self.max_seq_len}")
            if min(row) < 0 or max(row) >= self.vocab_size:
                raise BadIds(f"row {number} has an id that is not in 0..{self.vocab_size - 1}")


def load_encoder(model_dir: str | os.PathLike[str], **options: Any) -> Encoder:
    """Read a model and build its graph: `Encoder.build` of `read_source`, with its options."""
    return Encoder.build(read_source(model_dir, **options))


def place(rows: Array, indices: Indices, block: Array) -> None:
    """Put the rows of a batch, as `Encoder.run` returns them, where they belong in `rows`."""
    if rows.ndim == 2:
        rows[indices] = block
    else:
        rows[indices, : block.shape[1]] = block
