"""The special tokens around a text, or around the two texts of a pair."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertq_bert.tokenizing.sequences import Ids


@dataclass(frozen=True)
class Template:
    """The ids of the special tokens around texts."""

    #: before and after a single text
    before: tuple[int, ...]
    behind: tuple[int, ...]
    #: before, between and after the texts of a pair
    pair: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    #: whether the second text of a pair is the second segment
    segments: bool = True

    @property
    def size(self) -> int:
        """The number of special tokens around a single text."""
        return len(self.before) + len(self.behind)

    @property
    def pair_size(self) -> int:
        """The number of special tokens around and between the texts of a pair."""
        return sum(map(len, self.pair))

    def single(self, ids: Sequence[int], prompt: int = 0) -> list[int]:
        """Add the special tokens to a text.

        Args:
            ids: ids of the text.
            prompt: number of leading tokens of the result that the pooling ignores.
        """
        row = [*self.before, *ids, *self.behind]
        if len(self.before) == len(self.behind) == 1 and not prompt:
            return row
        added = (*range(len(self.before)), *range(len(row) - len(self.behind), len(row)))
        return Ids(row, second=len(row), added=added, prompt=prompt)

    def double(self, first: Sequence[int], second: Sequence[int]) -> list[int]:
        """Add the special tokens to the two texts of a pair."""
        before, between, behind = self.pair
        row = [*before, *first, *between, *second, *behind]
        middle = len(before) + len(first)
        start = middle + len(between)
        end = start + len(second)
        added = (*range(len(before)), *range(middle, start), *range(end, len(row)))
        return Ids(row, second=start if self.segments else len(row), added=added)
