"""The tokens around a text, or around the two texts of a pair."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertq_bert.tokenizing.sequences import Ids


@dataclass(frozen=True)
class Template:
    """Ids of the special tokens that are put around texts."""

    #: before and behind a single text
    before: tuple[int, ...]
    behind: tuple[int, ...]
    #: before, between and behind the texts of a pair
    pair: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    #: whether the second text of a pair is of the second segment
    segments: bool = True

    @property
    def size(self) -> int:
        """Tokens around a single text."""
        return len(self.before) + len(self.behind)

    @property
    def pair_size(self) -> int:
        """Tokens around and between the texts of a pair."""
        return sum(map(len, self.pair))

    def single(self, ids: Sequence[int], prompt: int = 0) -> list[int]:
        """A text in its special tokens.

        Args:
            ids: ids of the text.
            prompt: how many of the resulting tokens are left out of the pooling.
        """
        row = [*self.before, *ids, *self.behind]
        if len(self.before) == len(self.behind) == 1 and not prompt:
            return row
        added = (*range(len(self.before)), *range(len(row) - len(self.behind), len(row)))
        return Ids(row, second=len(row), added=added, prompt=prompt)

    def double(self, first: Sequence[int], second: Sequence[int]) -> list[int]:
        """The two texts of a pair in their special tokens."""
        before, between, behind = self.pair
        row = [*before, *first, *between, *second, *behind]
        middle = len(before) + len(first)
        start = middle + len(between)
        end = start + len(second)
        added = (*range(len(before)), *range(middle, start), *range(end, len(row)))
        return Ids(row, second=start if self.segments else len(row), added=added)
