"""Shortens long texts before they are tokenized, if truncation would remove most of their tokens.

The time of a tokenizer depends on the length of the text, not on the number of tokens that are
kept. So only a part of a long text, up to a space, is tokenized first. If the part has enough
tokens, the rest of the text is not tokenized; otherwise the part is made twice as long. The tokens
at the end of a part are not counted, because they may depend on the text after it. In a part
without a space at its end, all tokens may depend on the text after it; then the needed tokens must
be the same in parts of several lengths.
"""

from collections.abc import Sequence
from typing import Protocol

#: Minimum characters, for each needed token, of a text that is shortened.
_CHARACTERS_PER_TOKEN = 16
#: Number of tokens at the cut that are not counted.
_MARGIN_TOKENS = 64
#: Number of characters at the cut in which a repetition is searched.
_WINDOW_CHARACTERS = 64
#: The tokens of a part with more characters are used without a check.
_MAX_CHARACTERS = 500_000
#: Number of characters in which a space is searched for the cut.
_SEARCH_CHARACTERS = 512


class _Tokenizer(Protocol):
    splits_at_spaces: bool

    def pieces(self, texts: Sequence[str]) -> list[list[int]]: ...


def pieces(
    tokenizer: _Tokenizer, texts: Sequence[str], tokens: int, truncate: str
) -> tuple[list[list[int]], list[int]]:
    """Tokenize texts of which at most ``tokens`` ids each are needed.

    Args:
        tokenizer: returns all tokens of a text.
        texts: the texts.
        tokens: maximum number of ids of a text that are needed.
        truncate: the side on which texts are truncated, ``"right"`` or ``"left"``.

    Returns:
        Two lists. The first has the ids of each text: all, or more than ``tokens`` of them from
        the side that is kept. The second has the number of tokens of each text; where that is
        unknown, its number of characters, which is also more than ``tokens``.
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
    """Tokenize longer and longer parts of a text until they have enough ids.

    Args:
        tokenizer, text, tokens, truncate: as for ``pieces``.
        ids: the ids of the first part.
        size: the characters of the first part.

    Returns:
        The ids, and the number of tokens of the text, as ``pieces`` returns them.
    """
    while True:
        at_space = tokenizer.splits_at_spaces and _find_space(text, size, truncate) is not None
        if not at_space and len(text) <= 4 * size:
            size = len(text)  # several parts would take as long
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
    """Return whether parts of other lengths have the same needed ids."""
    # The tokens of a repeated pattern may depend on its whole length, so that one of the parts has
    # the pattern once more.
    sizes = {size + more for more in range(1, 9)}
    sizes |= {size + _find_period(text, size, truncate), size + size // 4 + 7}
    others = tokenizer.pieces([_take_part(text, other, truncate) for other in sizes])
    if truncate == "left":
        return all(other[-tokens:] == ids[-tokens:] for other in others)
    return all(other[:tokens] == ids[:tokens] for other in others)


def _find_period(text: str, size: int, truncate: str) -> int:
    """Return the number of characters after which the text at the cut repeats; 1 if it does not."""
    start = len(text) - size if truncate == "left" else size - _WINDOW_CHARACTERS
    window = text[start : start + _WINDOW_CHARACTERS]
    periods = range(1, _WINDOW_CHARACTERS // 2 + 1)
    return next((period for period in periods if window[period:] == window[:-period]), 1)


def _take_part(text: str, size: int, truncate: str) -> str:
    """Return about ``size`` characters of a text, up to a space if one is near."""
    if size >= len(text):
        return text
    place = _find_space(text, size, truncate)
    if truncate == "left":
        return text[len(text) - size if place is None else place :]
    return text[: size if place is None else place]


def _find_space(text: str, size: int, truncate: str) -> int | None:
    """Return the index of a space at which to cut a text, the first of adjacent ones, or None."""
    if truncate == "left":
        start = len(text) - size
        places = range(max(start, 1), min(start + _SEARCH_CHARACTERS, len(text) - 1))
    else:
        places = range(size, max(size - _SEARCH_CHARACTERS, 1), -1)
    # Not at other white space: some tokenizers remove it, or handle it like any character.
    return next((at for at in places if text[at] == " " and text[at - 1] != " "), None)
