"""Sequences of token ids, and the marks of tokens."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Bits of the marks of a token: it is in the second segment; it is a special token that was added
#: to the text; it belongs to a prompt, which the pooling ignores.
SECOND, ADDED, PROMPT = 1, 2, 4


class Ids(list[int]):
    """The token ids of a pair, of a text with a prompt, or of one with other special tokens.

    A plain list of ids is one segment, in which the first and the last token are special tokens
    that were added, like ``[CLS]`` and ``[SEP]``.

    Attributes:
        second: index of the first token of the second segment; the number of ids without one.
        added: indices of the special tokens that were added.
        prompt: number of leading tokens that the pooling ignores.
    """

    def __init__(
        self, ids: Iterable[int], *, second: int, added: Iterable[int] = (), prompt: int = 0
    ) -> None:
        super().__init__(ids)
        self.second = second
        self.added = tuple(added)
        self.prompt = prompt

    def marks(self) -> bytes:
        """Return a byte with the marks ``SECOND``, ``ADDED`` and ``PROMPT`` for each token."""
        size = len(self)
        found = bytearray(self.second) + bytes([SECOND]) * (size - self.second)
        for place in self.added:
            found[place] += ADDED
        for place in range(min(self.prompt, size)):
            found[place] += PROMPT
        return bytes(found)


class TokenPlace(NamedTuple):
    """A token and its position in a text."""

    #: id of the token
    id: int
    #: its characters in the text; the name of a special token
    text: str
    #: index of its first character, and index after its last; None for a special token
    start: int | None
    stop: int | None


class Tokenized(NamedTuple):
    """The token ids of texts."""

    #: token ids of each text: plain lists, or ``Ids``
    ids: list[list[int]]
    #: indices of the texts that were truncated
    cut: list[int]


def marks(ids: Sequence[Sequence[int]]) -> bytes:
    """Return the marks of the tokens of all texts, concatenated: a byte for each token."""
    return b"".join(
        [row.marks() if isinstance(row, Ids) else _marks_of_text(len(row)) for row in ids]
    )


@functools.lru_cache(maxsize=512)
def _marks_of_text(size: int) -> bytes:
    """Return the marks of a plain list of ids."""
    return (bytes([ADDED]) + bytes(max(0, size - 2)) + bytes([ADDED]))[:size]


def trim_like_google(first: int, second: int, max_tokens: int) -> tuple[int, int]:
    """Return how many tokens of each text of a pair to keep, ``max_tokens`` together.

    The result is that of ``_truncate_seq_pair`` of google-research/bert, which removes one token at
    a time from the longer text, or from the second if they are equally long.

    Args:
        first, second: number of tokens of each text.
        max_tokens: maximum tokens of both texts together.
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
    """Return how many tokens of each text of a pair to keep, as transformers truncates pairs.

    If both texts must be truncated, and ``max_tokens`` is odd, the longer text keeps one token
    more; if they are equally long, the second one, as in the ``tokenizers`` library.

    Args:
        first, second: number of tokens of each text.
        max_tokens: maximum tokens of both texts together.
    """
    if first + second <= max_tokens:
        return first, second
    short, long = sorted((first, second))
    if 2 * short <= max_tokens:
        long = max_tokens - short
    else:
        short, long = max_tokens // 2, max_tokens - max_tokens // 2
    return (long, short) if first > second else (short, long)
