"""A model on a device, which computes the rows of texts."""

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

#: Maximum tokens of a batch. On a CPU, a larger batch saves no time and delays other requests. A
#: GPU is efficient only with large batches.
_CPU_TOKENS, _GPU_TOKENS = 512, 16384

#: Maximum attention scores of one head, per token of a full batch: as in rows of 512 tokens. The
#: maximum limits the memory of attention, and the padding of short rows in a batch with a long one.
_SCORES_PER_TOKEN = 512

#: For a model that takes rows of more than ``_LONG_TOKENS`` tokens, the scores of all heads that
#: are in memory at once have a maximum, 64 MiB in float32: a single row might need too much memory.
_LONG_TOKENS, _MAX_SCORES = 1024, 2**24


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoder(Model):
    """A model on one device; thread-safe."""

    #: maximum size of one batch
    budget: Budget
    #: number of batches that ``compute`` runs at once
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
        """Build the graph of a model on the device that TensorFlow sees. Imports TensorFlow.

        Args:
            source: the model.
            lanes: number of batches that run at once. On a CPU, one lane for each core, with 1
                intra-op thread and ``lanes`` inter-op threads of TensorFlow, is faster than one
                batch on all cores. A lone batch still runs on two cores.
            compiles: whether XLA compiles the shapes of batches that occur, in a thread; None: on
                a GPU only.
            cache: stores the compiled functions.
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
        """Return the rows of texts, in the order of ``texts``.

        A service with this model returns the same rows.

        Args:
            texts: texts and pairs of texts.
            pairs: as for ``tokenize``.
            prompt_name, prompt, input_type: the prompt before each text, as for ``prompt_text``.
            normalize: whether to normalize rows to length 1; None: the model's default.
            dimensions: number of leading dimensions to keep; None keeps all.
            precision: data type of the rows, one of ``quantization.PRECISIONS``.

        Returns:
            An array [len(texts), *row_shape]. For the task ``sparse``, the rows are dense arrays
            in which most numbers are zero.

        Raises:
            BadOption: the rows cannot be normalized, shortened or quantized as requested.
            BadIds: the model has no such prompt, or cannot read one of the texts.
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
        """Return the rows of sequences of token ids, in the order of ``ids``.

        Sequences of similar length share a batch within the ``budget``. A row does not depend on
        the other rows of its batch.

        Returns:
            A float32 array [len(ids), *row_shape].

        Raises:
            BadIds: a sequence is empty, longer than ``max_seq_len``, or has an unknown id.
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
            # The most expensive batches first, so that all lanes end at about the same time.
            with ThreadPoolExecutor(self.lanes, "bertq-lane") as pool:
                list(pool.map(compute, reversed(batches)))
        return rows

    def run(self, ids: Sequence[Sequence[int]]) -> Array:
        """Return the rows of one batch, in the order of ``ids``, by one execution of the graph.

        Args:
            ids: sequences that have passed ``check``, at least one, within the ``budget``.

        Returns:
            A float32 array [len(ids), dim]; for the strategy ``NONE`` [len(ids), tokens of the
            longest sequence, dim].
        """
        return self._graph(ids)

    def compile_stats(self) -> "CompileStats | None":
        """Return statistics of XLA's compilations; None if XLA is not used."""
        compiled = self._graph.compiled
        return None if compiled is None else compiled.stats()

    def blank(self, lengths: Sequence[int]) -> Array:
        """Return zeros for the rows of sequences with these lengths.

        Returns:
            A float32 array [len(lengths), *row_shape].
        """
        longest = max(lengths, default=0)
        sizes = (longest if size is None else size for size in self.row_shape)
        return np.zeros((len(lengths), *sizes), np.float32)

    def warm_up(
        self,
        on_step: Callable[[int, int, int, int], object] = lambda step, steps, rows, length: None,
    ) -> None:
        """Run batches of a few shapes, so that no request waits for TensorFlow's initialization.

        Args:
            on_step: called before each batch with its number, from 1, the number of batches, the
                number of rows, and the tokens of each row.
        """
        shapes = ((1, 3), (1, 20), (1, self.max_seq_len), (32, 64))
        for step, (rows, longest) in enumerate(shapes, 1):
            length = min(longest, self.max_seq_len)
            on_step(step, len(shapes), rows, length)
            self.compute([[0] * length] * rows)

    def check(self, ids: Sequence[Sequence[int]]) -> None:
        """Check that the graph can run sequences of token ids.

        Raises:
            BadIds: a sequence is empty, longer than ``max_seq_len``, or has an unknown id.
        """
        for number, row in enumerate(ids):
            if not 0 < len(row) <= self.max_seq_len:
                raise BadIds(f"row {number} has {len(row)} ids: give 1 to {self.max_seq_len}")
            if min(row) < 0 or max(row) >= self.vocab_size:
                raise BadIds(f"row {number} has an id that is not in 0..{self.vocab_size - 1}")


def load_encoder(model_dir: str | os.PathLike[str], *, lanes: int = 1, **options: Any) -> Encoder:
    """Read a model and build its graph; ``options`` are those of ``read_source``."""
    return Encoder.build(read_source(model_dir, **options), lanes=lanes)


def place(rows: Array, indices: Indices | list[int], block: Array) -> None:
    """Copy the rows of a batch to their places in the rows of all sequences.

    Args:
        rows: the array to write to, as ``Encoder.blank`` returns it.
        indices: index in ``rows`` of each row of the batch.
        block: the rows of the batch, as ``Encoder.run`` returns them.
    """
    if rows.ndim == 2:
        rows[indices] = block
    else:
        rows[indices, : block.shape[1]] = block
