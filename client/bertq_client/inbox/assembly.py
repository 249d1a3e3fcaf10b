"""Splits sentences into chunks, and puts the rows of the chunks back in order."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertq.errors import ModelMismatch, WireError
from bertq.protocol.limits import MAX_CHUNK_CHARACTERS, MAX_CHUNK_ROWS
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq.protocol.wire import ChunkResult
from bertq_client import inputs
from bertq_client.inbox.sparse_assembly import SparseAssembly
from bertq_client.inputs import Text

#: Positions in a list of sentences, or in the rows of its answer.
Indices = NDArray[np.intp]

_FIRST = np.zeros(1, np.intp)

#: Rows of duplicate sentences that are copied at a time: each such copy needs a temporary copy.
_COPIED_ROWS = 1024


@dataclass(frozen=True, eq=False)
class PlannedChunk:
    """Some sentences of a job; every sentence belongs to one chunk only.

    Attributes:
        sentences: indices of the sentences, each distinct text once.
        places: the rows of the answer that the chunk fills.
        sources: for each place, the index of the chunk's row for it; None if the rows and places
            match one to one.
    """

    sentences: Indices
    places: Indices
    sources: Indices | None = None


class Deduplicator:
    """The distinct sentences of a job: duplicates are encoded only once."""

    def __init__(self) -> None:
        self._numbers: dict[Text, int] = {}
        self._number_of = array("q")  # for each sentence

    def add(self, texts: Sequence[Text]) -> None:
        """Add sentences."""
        numbers = self._numbers
        self._number_of.extend([numbers.setdefault(text, len(numbers)) for text in texts])

    def plan_chunks(
        self, max_rows: int = MAX_CHUNK_ROWS, max_characters: int = MAX_CHUNK_CHARACTERS
    ) -> list[PlannedChunk]:
        """Split the sentences into chunks.

        Args:
            max_rows: most sentences of a chunk.
            max_characters: most characters of a chunk, unless a single sentence has more.

        Returns:
            The chunks. Each distinct text is in exactly one of them, and each row of the answer is
            a place of exactly one.
        """
        if len(self._number_of) == 1:
            return [PlannedChunk(_FIRST, _FIRST)]
        measure = len if set(map(type, self._numbers)) == {str} else inputs.characters
        parts = split(list(map(measure, self._numbers)), max_rows, max_characters)
        if len(self._numbers) == len(self._number_of):
            return [PlannedChunk(part, part) for part in parts]
        number_of = np.frombuffer(self._number_of, np.int64)
        # The rows of the answer grouped by text, and where the group of each text begins.
        order = np.argsort(number_of, kind="stable")
        counts = np.bincount(number_of)
        starts = np.cumsum(counts) - counts
        return [self._chunk(part, order, starts, counts) for part in parts]

    @staticmethod
    def _chunk(part: Indices, order: Indices, starts: Indices, counts: Indices) -> PlannedChunk:
        repeats = counts[part]
        sources = np.repeat(np.arange(len(part)), repeats)
        within = np.arange(len(sources)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        return PlannedChunk(order[starts[part]], order[starts[part][sources] + within], sources)


def split(lengths: Sequence[int], max_rows: int, max_characters: int) -> list[Indices]:
    """Split sentences into chunks of similar length.

    Args:
        lengths: characters of each sentence, at least one sentence.
        max_rows: most sentences of a chunk.
        max_characters: most characters of a chunk, unless a single sentence has more.

    Returns:
        The chunks: every index from 0 to ``len(lengths) - 1`` once, in ascending order of length.
    """
    sizes = np.asarray(lengths)
    order = np.argsort(sizes, kind="stable")
    # Chunks of similar size: 257 sentences make 129 and 128, not 256 and 1.
    even = np.array_split(order, -(-len(order) // max_rows))
    return [part for chunk in even for part in _halve(chunk, sizes, max_characters)]


def _halve(chunk: Indices, sizes: NDArray[Any], max_characters: int) -> list[Indices]:
    """Halve a chunk until each part is small enough or a single sentence."""
    if len(chunk) == 1 or int(sizes[chunk].sum()) <= max_characters:
        return [chunk]
    middle = len(chunk) // 2
    halves = (chunk[:middle], chunk[middle:])
    return [part for half in halves for part in _halve(half, sizes, max_characters)]


def places_of(chunk: PlannedChunk, rows: Sequence[int]) -> list[int]:
    """Return the places in the answer for some rows of a chunk, in ascending order."""
    if chunk.sources is None:
        return sorted(chunk.places[list(rows)].tolist())
    return sorted(chunk.places[np.isin(chunk.sources, rows)].tolist())


class Assembly:
    """The growing answer to one job.

    Attributes:
        plan: the chunks of the job.
        missing: numbers of the chunks that have not arrived.
        done: number of rows that have arrived.
        tokens: the tokens of each sentence, if the workers send them.
        cut: indices of the truncated sentences.
        max_seq_len: maximum number of tokens of a sentence, if any was truncated.
        lengths: number of tokens read of each sentence, if the workers send it.
        fingerprint: fingerprint of the model that encoded the rows; empty before the first chunk.
    """

    def __init__(self, plan: list[PlannedChunk]) -> None:
        self.plan = plan
        self.missing = set(range(len(plan)))
        self.done = 0
        self.tokens: list[list[str]] | None = None
        self.cut: list[int] = []
        self.max_seq_len = 0
        self.lengths: NDArray[np.int64] | None = None
        self._size = sum(len(chunk.places) for chunk in plan)
        self.fingerprint = ""
        self._rows: NDArray[Any] | None = None
        self._sparse = SparseAssembly(self._size)

    def add(self, number: int, result: ChunkResult) -> bool:
        """Copy a chunk's rows to their places.

        Returns:
            False if the chunk has arrived before: a chunk may be delivered twice.

        Raises:
            WireError: there is no such chunk, or its rows have the wrong number or shape.
            ModelMismatch: the rows come from another model than earlier ones.
        """
        if not 0 <= number < len(self.plan):
            raise WireError(f"there is no chunk {number}: the job has {len(self.plan)}")
        if number not in self.missing:
            return False
        chunk = self.plan[number]
        if len(result.rows) != len(chunk.sentences):
            raise WireError(
                f"chunk {number} has {len(result.rows)} rows for {len(chunk.sentences)} sentences"
            )
        self._place(chunk, result)
        if result.tokens is not None:
            self._place_tokens(chunk, result.tokens)
        if result.lengths is not None:
            self._place_lengths(chunk, result.lengths)
        if result.cut:
            self.cut += places_of(chunk, result.cut)
            self.max_seq_len = result.max_seq_len
        self.missing.discard(number)
        self.done += len(chunk.places)
        return True

    def _place_tokens(self, chunk: PlannedChunk, tokens: list[list[str]]) -> None:
        if self.tokens is None:
            self.tokens = [[] for _ in range(self._size)]
        sources = range(len(chunk.places)) if chunk.sources is None else chunk.sources.tolist()
        for place, source in zip(chunk.places.tolist(), sources, strict=True):
            self.tokens[place] = tokens[source].copy()

    def _place_lengths(self, chunk: PlannedChunk, lengths: Sequence[int]) -> None:
        if self.lengths is None:
            self.lengths = np.zeros(self._size, np.int64)
        counted = np.array(lengths)
        self.lengths[chunk.places] = counted if chunk.sources is None else counted[chunk.sources]

    def _place(self, chunk: PlannedChunk, result: ChunkResult) -> None:
        self.fingerprint = self.fingerprint or result.fingerprint
        if result.fingerprint != self.fingerprint:
            raise ModelMismatch(
                f"rows of model {result.fingerprint[:12]} came after rows of model "
                f"{self.fingerprint[:12]}: workers with different models or settings share a queue"
            )
        rows, sparse = result.rows, isinstance(result.rows, SparseRows)
        if (self._rows is not None) if sparse else bool(self._sparse.parts):
            raise WireError("the rows of one request are partly sparse and partly not")
        if isinstance(rows, SparseRows):
            self._sparse.place(chunk.places, chunk.sources, rows)
        else:
            self._place_dense(chunk, rows)

    def _place_dense(self, chunk: PlannedChunk, rows: NDArray[Any]) -> None:
        if self._rows is None:
            # Zeros use no memory until they are written. They also pad shorter sentences (NONE).
            self._rows = np.zeros((self._size, *rows.shape[1:]), rows.dtype.newbyteorder("="))
        if rows.ndim == 3 and rows.shape[1] > self._rows.shape[1]:
            # Each chunk has as many token vectors as its longest sentence.
            longer = np.zeros((self._size, *rows.shape[1:]), self._rows.dtype)
            longer[:, : self._rows.shape[1]] = self._rows
            self._rows = longer
        if rows.ndim != self._rows.ndim or rows.shape[-1] != self._rows.shape[-1]:
            raise WireError(f"rows of shape {rows.shape[1:]} came after {self._rows.shape[1:]}")
        # Shorter rows are followed by zeros.
        target = self._rows[:, : rows.shape[1]] if rows.ndim == 3 else self._rows
        if chunk.sources is None:
            target[chunk.places] = rows
            return
        for first in range(0, len(chunk.places), _COPIED_ROWS):
            part = slice(first, first + _COPIED_ROWS)
            target[chunk.places[part]] = rows[chunk.sources[part]]

    @property
    def has_token_rows(self) -> bool:
        """Whether a row has token vectors (NONE), as many as the longest sentence has tokens."""
        return self._rows is not None and self._rows.ndim == 3

    @property
    def rows_so_far(self) -> AnyRows | None:
        """The answer, with zeros for missing rows; None before the first chunk."""
        return self._sparse.rows() if self._sparse.parts else self._rows

    def rows(self) -> AnyRows:
        """Return the answer, ``[n, *row_shape]``, in the order of the sentences.

        Raises:
            LookupError: chunks are missing.
        """
        found = self.rows_so_far
        if found is None or self.missing:
            raise LookupError(f"{len(self.missing)} chunks are missing")
        return found
