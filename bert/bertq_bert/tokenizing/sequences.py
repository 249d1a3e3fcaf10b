"""Token ids of a text, where it is not the plain ``[CLS] tokens [SEP]`` of one segment."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: What ``marks`` says of a token, added up: it is of the second segment; it was added to the text,
#: and no token of its own; it belongs to the prompt, which is left out of the pooling.
SECOND, ADDED, PROMPT = 1, 2, 4


class Ids(list[int]):
    """The ids of a pair, of a text with a prompt, or of one without ``[CLS]`` or ``[SEP]``.

    A plain list of ids is one segment, with one added token first and one last.
    """

    def __init__(
        self, ids: Iterable[int], *, second: int, added: Iterable[int] = (), prompt: int = 0
    ) -> None:
        super().__init__(ids)
        #: where the second segment begins: the number of ids without a second segment
        self.second = second
        #: places of the tokens that were added
        self.added = tuple(added)
        #: how many tokens, from the first on, are left out of the pooling
        self.prompt = prompt

    def marks(self) -> bytes:
        """``SECOND``, ``ADDED`` and ``PROMPT`` of each token: a byte for each."""
        size = len(self)
        found = bytearray(self.second) + bytes([SECOND]) * (size - self.second)
        for place in self.added:
            found[place] += ADDED
        for place in range(min(self.prompt, size)):
            found[place] += PROMPT
        return bytes(found)


class TokenPlace(NamedTuple):
    """A token, and where it is in its text."""

    #: of the token
    id: int
    #: the characters of the text that it stands for; of a special token, its name
    text: str
    #: places of its first character, and of the first one behind it; None for a special token
    start: int | None
    stop: int | None


class Tokenized(NamedTuple):
    """Texts as the graph takes them."""

    #: of each text; plain lists, or ``Ids``
    ids: list[list[int]]
    #: numbers of the texts that had more tokens than are read
    cut: list[int]


def marks(ids: Sequence[Sequence[int]]) -> bytes:
    """``SECOND``, ``ADDED`` and ``PROMPT`` of each token, all texts end to end: a byte for each."""
    return b"".join(
        [row.marks() if isinstance(row, Ids) else _marks_of_text(len(row)) for row in ids]
    )


@functools.lru_cache(maxsize=512)
def _marks_of_text(size: int) -> bytes:
    """Marks of a plain list of ids."""
    return (bytes([ADDED]) + bytes(max(0, size - 2)) + bytes([ADDED]))[:size]


def trim_like_google(first: int, second: int, max_tokens: int) -> tuple[int, int]:
    """How many tokens stay of the sides of a pair, so that ``max_tokens`` of them are left.

    The longer side gives up a token at a time, the second one where they are equal: the result of
    google-research/bert's ``_truncate_seq_pair`` in one step.
    """
    excess = first + second - max_tokens
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


def trim_like_transformers(first: int, second: int, max_tokens: int) -> tuple[int, int]:
    """The same as transformers cuts a pair: where both must be cut, the longer keeps the odd token.

    The second one is the longer where they are equal, as in the ``tokenizers`` library.
    """
    if first + second <= max_tokens:
        return first, second
    short, long = sorted((first, second))
    if 2 * short <= max_tokens:
        long = max_tokens - short
    else:
        short, long = max_tokens // 2, max_tokens - max_tokens // 2
    return (long, short) if first > second else (short, long)
