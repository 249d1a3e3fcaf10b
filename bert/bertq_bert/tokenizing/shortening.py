"""Shortens long texts before they are tokenized, where most of their tokens would be cut off.

A tokenizer's time grows with the text, not with the tokens that are kept. So a long text is first
tokenized up to a space somewhere behind the tokens that are needed; if that gives enough of them,
the rest is never looked at, otherwise the part is made twice as long. The last tokens of a part,
which may depend on what follows, are not counted. Where there is no space, all tokens may depend on
what follows: there the tokens that are needed must be the same in parts of several lengths.
"""

from collections.abc import Sequence
from typing import Protocol

#: Characters of a text for each token that is needed, from which on it is worth it.
_CHARACTERS_PER_TOKEN = 16
#: Tokens at the cut that are not trusted.
_MARGIN_TOKENS = 64
#: Characters at the cut that are searched for something that repeats.
_WINDOW_CHARACTERS = 64
#: Characters of a part from which on its tokens are used in any case.
_MAX_CHARACTERS = 500_000
#: A cut is made at a space if there is one within so many characters.
_SEARCH_CHARACTERS = 512


class _Tokenizer(Protocol):
    splits_at_spaces: bool

    def pieces(self, texts: Sequence[str]) -> list[list[int]]: ...


def pieces(
    tokenizer: _Tokenizer, texts: Sequence[str], tokens: int, truncate: str
) -> tuple[list[list[int]], list[int]]:
    """Tokenize texts when at most ``tokens`` ids of each are read.

    Args:
        tokenizer: gives all tokens of a text.
        texts: the texts.
        tokens: how many ids of a text can be needed.
        truncate: the end that is cut, ``"right"`` or ``"left"``.

    Returns:
        Of each text all ids, or more than ``tokens`` of them from the end that is kept; and how
        many it has, or its characters where that is not known: more than ``tokens`` too.
    """
    size = (tokens + _MARGIN_TOKENS) * _CHARACTERS_PER_TOKEN
    if max(map(len, texts), default=0) <= size:
        found = tokenizer.pieces(texts)
        return found, list(map(len, found))
    parts = [_take_part(text, size, truncate) if len(text) > size else text for text in texts]
    found = tokenizer.pieces(parts)
    counts = list(map(len, found))
    for row, text in enumerate(texts):
        if len(text) > size:
            found[row], counts[row] = _extend(tokenizer, text, found[row], size, tokens, truncate)
    return found, counts


def _extend(
    tokenizer: _Tokenizer, text: str, ids: list[int], size: int, tokens: int, truncate: str
) -> tuple[list[int], int]:
    """Go on with longer parts of one text until there are enough ids of it."""
    while True:
        at_space = tokenizer.splits_at_spaces and _find_space(text, size, truncate) is not None
        if not at_space and len(text) <= 4 * size:
            size = len(text)  # other parts would be as much work
        elif len(ids) > tokens + _MARGIN_TOKENS and (
            at_space
            or size > _MAX_CHARACTERS
            or _is_stable(tokenizer, text, ids, size, tokens, truncate)
        ):
            return (ids[_MARGIN_TOKENS:] if truncate == "left" else ids[:-_MARGIN_TOKENS]), len(
                text
            )
        size = min(2 * size, len(text))
        (ids,) = tokenizer.pieces([_take_part(text, size, truncate)])
        if size == len(text):
            return ids, len(ids)


def _is_stable(
    tokenizer: _Tokenizer, text: str, ids: list[int], size: int, tokens: int, truncate: str
) -> bool:
    """Whether parts of other lengths have the same ids."""
    # what repeats may be divided into tokens by its whole length: once more is another length
    sizes = {size + more for more in range(1, 9)}
    sizes |= {size + _find_period(text, size, truncate), size + size // 4 + 7}
    others = tokenizer.pieces([_take_part(text, other, truncate) for other in sizes])
    if truncate == "left":
        return all(other[-tokens:] == ids[-tokens:] for other in others)
    return all(other[:tokens] == ids[:tokens] for other in others)


def _find_period(text: str, size: int, truncate: str) -> int:
    """After how many characters a part repeats itself at the cut; 1 if it does not."""
    start = len(text) - size if truncate == "left" else size - _WINDOW_CHARACTERS
    window = text[start : start + _WINDOW_CHARACTERS]
    periods = range(1, _WINDOW_CHARACTERS // 2 + 1)
    return next((period for period in periods if window[period:] == window[:-period]), 1)


def _take_part(text: str, size: int, truncate: str) -> str:
    """About ``size`` characters of a text, up to a space if there is one near."""
    if size >= len(text):
        return text
    place = _find_space(text, size, truncate)
    if truncate == "left":
        return text[len(text) - size if place is None else place :]
    return text[: size if place is None else place]


def _find_space(text: str, size: int, truncate: str) -> int | None:
    """Return where to cut a text: the first of several spaces; None if no space is near."""
    if truncate == "left":
        start = len(text) - size
        places = range(max(start, 1), min(start + _SEARCH_CHARACTERS, len(text) - 1))
    else:
        places = range(size, max(size - _SEARCH_CHARACTERS, 1), -1)
    # other white space is dropped by some tokenizers, or a character like others
    return next((at for at in places if text[at] == " " and text[at - 1] != " "), None)
