"""Replaces characters before the ``tokenizers`` library sees a text."""

import unicodedata


class CleanText(dict[int, int | str | None]):
    """A ``str.translate`` table, filled on demand, for characters that the library gets wrong.

    The library keeps unassigned characters, and fails on lone surrogates. Its tables of control
    characters, punctuation, accents and CJK blocks are older than Python's.

    Args:
        strip_accents: whether to remove accents (combining marks).
        isolate: whether to put spaces around punctuation and ideographs that the library's older
            tables may lack.
    """

    def __init__(self, *, strip_accents: bool, isolate: bool) -> None:
        self._strip_accents = strip_accents
        self._isolate = isolate

    def __missing__(self, code: int) -> int | str | None:
        char = chr(code)
        category = unicodedata.category(char)
        if (category[0] == "C" and char not in "\t\n\r") or char == "\ufffd":
            return None  # not stored: there are nearly a million of them
        if category == "Mn" and self._strip_accents:
            self[code] = None
        elif self._isolate and code > 0x7F and (category[0] == "P" or 0x2B820 <= code <= 0x2B91F):
            self[code] = f" {char} "
        else:
            self[code] = code
        return self[code]
