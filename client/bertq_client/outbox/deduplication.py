"""Removes duplicate sentences, and splits the distinct ones into chunks."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertq.protocol.limits import MAX_CHUNK_CHARACTERS, MAX_CHUNK_ROWS
from bertq_client import inputs
from bertq_client.inputs import Text

#: Positions in a list of sentences, or in the rows of its answer.
Indices = NDArray[np.intp]

_FIRST = np.zeros(1, np.intp)


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
