"""One loaded model: texts in, rows out."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bertq_bert.batches import Budget, Indices
from bertq_bert.checkpoint import Array
from bertq_bert.compile_cache import CompileCache
from bertq_bert.errors import BadIds
from bertq_bert.model import Model
from bertq_bert.quantization import check_request, finish_rows
from bertq_bert.source import Source, read_source

if TYPE_CHECKING:
    from bertq_bert.network.compiled import CompileStats
    from bertq_bert.network.graph import Graph

#: Tokens of one batch. On a CPU more gain nothing and keep others waiting; a GPU wants to be full.
_CPU_TOKENS, _GPU_TOKENS = 512, 16384

#: Attention scores per token of a full batch: those of rows of 512 tokens. This bounds the memory
#: of attention, and the padding of short rows that share a batch with a long one.
_SCORES_PER_TOKEN = 512

#: Tokens of a row from which on its own attention needs a bound on memory: scores of all heads that
#: are there at once, 64 MiB in float32.
_LONG_TOKENS, _MAX_SCORES = 1024, 2**24


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoder(Model):
    """A model on one device. Safe to use from many threads."""

    #: bounds on one execution of the graph
    budget: Budget
    #: how many batches ``compute`` runs at once
    lanes: int
    _graph: "Graph" = field(repr=False)

    @classmethod
    def build(
        cls,
        source: Source,
        *,
        lanes: int = 1,
        compiles: bool | None = None,
        cache: CompileCache | None = None,
    ) -> "Encoder":
        """Put a model on the device that TensorFlow sees; imports TensorFlow.

        ``lanes`` batches run at once: on a CPU one for each core, with TensorFlow's intra-op
        threads set to 1 and its inter-op threads to ``lanes``, beats all cores working on one
        batch; and a batch that is alone runs on two of them. ``compiles``: whether XLA compiles
        batches of the shapes that are used, in a thread; None: on a GPU. ``cache`` stores them.
        """
        from bertq_bert.network.graph import Graph

        model = source.model
        bound = _MAX_SCORES if model.max_seq_len > _LONG_TOKENS else None
        graph = Graph(
            source.config, source.weights, source.pooling, model.dtype, bound,
            compiles=compiles, cache=cache, fingerprint=model.fingerprint,
        )  # fmt: skip
        tokens = _GPU_TOKENS if graph.on_gpu else _CPU_TOKENS
        budget = Budget(model.max_batch_size, tokens, tokens * _SCORES_PER_TOKEN)
        return cls(**vars(model), budget=budget, lanes=lanes, _graph=graph)

    def encode(
        self,
        texts: Sequence[Any],
        *,
        pairs: bool | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        input_type: str | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        precision: str = "float32",
    ) -> npt.NDArray[Any]:
        """Rows of texts, in their order, as a service with this model gives them.

        Args:
            texts: texts, and pairs of them.
            pairs: as for ``tokenize``.
            prompt_name, prompt, input_type: the prompt before each text, as for ``prompt_text``.
            normalize: whether rows get the length 1; None: as the model says.
            dimensions: how many numbers of a row are kept.
            precision: type of the numbers, one of ``quantization.PRECISIONS``.

        Returns:
            [len(texts), *row_shape]; for task ``sparse`` dense rows, most numbers of them zero.

        Raises:
            BadOption, BadIds: the rows cannot be as asked, or there is no such prompt.
        """
        check_request(self, normalize=normalize, dimensions=dimensions, precision=precision)
        before = self.prompt_text(prompt_name=prompt_name, prompt=prompt, input_type=input_type)
        rows = self.compute(
            self.tokenize(texts, pairs=pairs, prompt="" if before is None else before).ids
        )
        return finish_rows(
            rows,
            normalize=self.normalized if normalize is None else normalize,
            dimensions=dimensions,
            precision=precision,
            int8_ranges=self.int8_ranges,
        )

    def compute(self, ids: Sequence[Sequence[int]]) -> Array:
        """Rows of sequences of token ids, in their order: float32 [len(ids), *row_shape].

        They run in batches of like length within the ``budget``; a row does not depend on what it
        is batched with.

        Raises:
            BadIds: a sequence is empty, longer than ``max_seq_len``, or names an unknown token.
        """
        self.check(ids)
        lengths = list(map(len, ids))
        rows = self.blank(lengths)

        def compute(batch: list[int]) -> None:
            place(rows, batch, self.run([ids[row] for row in batch]))

        batches = self.budget.split(lengths)
        if self.lanes == 1 or len(batches) == 1:
            for batch in batches:
                compute(batch)
        else:
            # the costliest first, so that the lanes end together
            with ThreadPoolExecutor(self.lanes, "bertq-lane") as pool:
                list(pool.map(compute, reversed(batches)))
        return rows

    def run(self, ids: Sequence[Sequence[int]]) -> Array:
        """Rows of one batch, in its order, by one execution of the graph.

        It must be checked (``check``), not empty, and within the ``budget``. float32
        [len(ids), dim]; for NONE [len(ids), tokens of the longest, dim].
        """
        return self._graph(ids)

    def compile_stats(self) -> "CompileStats | None":
        """Return what XLA has compiled; None if it compiles nothing."""
        compiled = self._graph.compiled
        return None if compiled is None else compiled.stats()

    def blank(self, lengths: Sequence[int]) -> Array:
        """Zeros for the rows of sequences of these lengths: float32 [len(lengths), *row_shape]."""
        longest = max(lengths, default=0)
        sizes = (longest if size is None else size for size in self.row_shape)
        return np.zeros((len(lengths), *sizes), np.float32)

    def warm_up(
        self,
        on_step: Callable[[int, int, int, int], object] = lambda step, steps, rows, length: None,
    ) -> None:
        """Run a few shapes once, so that the first request does not pay for late initialization.

        ``on_step`` is called before each with its number, from 1, the number of steps, and the rows
        and tokens of its batch.
        """
        shapes = ((1, 3), (1, 20), (1, self.max_seq_len), (32, 64))
        for step, (rows, longest) in enumerate(shapes, 1):
            length = min(longest, self.max_seq_len)
            on_step(step, len(shapes), rows, length)
            self.compute([[0] * length] * rows)

    def check(self, ids: Sequence[Sequence[int]]) -> None:
        """Raise ``BadIds`` for sequences that the graph cannot run."""
        for number, row in enumerate(ids):
            if not 0 < len(row) <= self.max_seq_len:
                raise BadIds(f"row {number} has {len(row)} ids: give 1 to {self.max_seq_len}")
            if min(row) < 0 or max(row) >= self.vocab_size:
                raise BadIds(f"row {number} has an id that is not in 0..{self.vocab_size - 1}")


def load_encoder(model_dir: str | os.PathLike[str], *, lanes: int = 1, **options: Any) -> Encoder:
    """Read a model and build its graph: ``Encoder.build`` of ``read_source``, with its options."""
    return Encoder.build(read_source(model_dir, **options), lanes=lanes)


def place(rows: Array, indices: Indices | list[int], block: Array) -> None:
    """Put the rows of a batch, as ``Encoder.run`` returns them, where they belong in ``rows``."""
    if rows.ndim == 2:
        rows[indices] = block
    else:
        rows[indices, : block.shape[1]] = block
