"""Google's FullTokenizer in plain Python, to compare with.

The rules are those of `tokenization.py` in google-research/bert.
"""

import unicodedata
from collections.abc import Iterator

_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def is_control(char: str) -> bool:
    return char not in "\t\n\r" and unicodedata.category(char).startswith("C")


def is_punctuation(char: str) -> bool:
    code = ord(char)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(char).startswith("P")


def clean(text: str) -> str:
    kept = (c for c in text if ord(c) not in (0, 0xFFFD) and not is_control(c))
    return "".join(" " if c in " \t\n\r" or unicodedata.category(c) == "Zs" else c for c in kept)


def split_cjk(text: str) -> str:
    return "".join(
        f" {c} " if any(low <= ord(c) <= high for low, high in _CJK) else c for c in text
    )


def basic(text: str, *, cased: bool) -> list[str]:
    words: list[str] = []
    for word in split_cjk(clean(text)).split():
        if not cased:
            decomposed = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        words.extend(_split_punctuation(word))
    return words


def _split_punctuation(word: str) -> Iterator[str]:
    current = ""
    for char in word:
        if not is_punctuation(char):
            current += char
            continue
        if current:
            yield current
        yield char
        current = ""
    if current:
        yield current


def wordpieces(text: str, vocabulary: dict[str, int], *, cased: bool) -> list[str]:
    pieces: list[str] = []
    for word in basic(text, cased=cased):
        pieces.extend(_greedy(word, vocabulary) if len(word) <= 100 else ["[UNK]"])
    return pieces


def _greedy(word: str, vocabulary: dict[str, int]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces
