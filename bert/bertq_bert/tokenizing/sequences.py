"""Token ids of a sentence, where it is not the plain ``[CLS] tokens [SEP]`` of one segment."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: What ``marks`` says of a token, added up: it is of the second segment; it was added to the
#: sentence, and no token of its own.
SECOND, ADDED = 1, 2


class Ids(list[int]):
    """The ids of a pair of sentences, or of tokens to which nothing was added.

    A plain list of ids is one segment, with ``[CLS]`` first and ``[SEP]`` last.
    """

    def __init__(self, ids: Iterable[int], *, second: int, bare: bool) -> None:
        super().__init__(ids)
        #: where the second segment begins: the number of ids if there is none
        self.second = second
        #: whether no ``[CLS]`` and ``[SEP]`` were added
        self.bare = bare


class Tokenized(NamedTuple):
    """Sentences as the graph takes them."""

    #: of each sentence; plain lists, or ``Ids``
    ids: list[list[int]]
    #: numbers of the sentences that had more word pieces than are read
    cut: list[int]


def marks(ids: Sequence[Sequence[int]], lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """``SECOND`` and ``ADDED`` of each token, all sentences end to end: int32 [N]."""
    ends = np.cumsum(lengths)
    found = np.zeros(int(ends[-1]), np.int32)
    found[ends - 1] = found[ends - lengths] = ADDED
    if Ids not in map(type, ids):
        return found
    for row, end in zip(ids, ends.tolist(), strict=True):
        if not isinstance(row, Ids):
            continue
        start = end - len(row)
        if row.bare:
            found[start:end] = 0
        if row.second < len(row):
            found[start + row.second : end] += SECOND
            if not row.bare:
                found[start + row.second - 1] = ADDED
    return found


def trimmed(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens stay of the sides of a pair, so that ``room`` of them are left.

    The longer side gives up a token at a time, the second one where they are equal: the result of
    google-research/bert's ``_truncate_seq_pair`` in one step.
    """
    excess = first + second - room
    if excess <= 0:
        return first, second
    if first > second:
        fewer = min(first - second, excess)
        first -= fewer
    else:
        fewer = min(second - first, excess)
        second -= fewer
    excess -= fewer
    return first - excess // 2, second - (excess + 1) // 2
