"""Sentences that are all different, and the row that belongs to each: known before it is sent."""

import hashlib
import random
from array import array
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_SPECIAL_TOKEN = 0
#: Words of a sentence beside its number.
_WORDS = ("in", "the", "beginning", "was", "word", "and", "light", "darkness", "earth", "heaven")
_MAX_WORDS = 8


def token_ids(text: str) -> list[int]:
    """Return a number for each word of a sentence, between the numbers of two special tokens."""
    words = [crc32(word.encode()) for word in text.split(" ")]
    return [_SPECIAL_TOKEN, *words, _SPECIAL_TOKEN]


def compute_rows(sequences: Sequence[Sequence[int]], dim: int) -> NDArray[np.float32]:
    """Return the rows of sentences: numbers that hang on every word and its place.

    Whole numbers below 2**24, which float32 holds exactly.
    """
    digests = b"".join(
        hashlib.blake2b(array("I", ids).tobytes(), digest_size=8).digest() for ids in sequences
    )
    seeds = np.frombuffer(digests, "<u8")
    factors = np.arange(1, 2 * dim, 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    rows: NDArray[np.float32] = (seeds[:, None] * factors >> np.uint64(40)).astype(np.float32)
    return rows


def expected_rows(texts: Sequence[str], dim: int) -> NDArray[np.float32]:
    """Return the rows that must come for sentences."""
    return compute_rows([token_ids(text) for text in texts], dim)


class Sentences:
    """A source of sentences: no two alike, of this source or of one with another name."""

    def __init__(self, name: str, seed: int) -> None:
        self.random = random.Random(f"{name} {seed}")
        self._name = name
        self._number = 0

    def take(self, count: int) -> list[str]:
        """Return so many; now and then one comes again in a request, which is sent once."""
        texts = [self._next() for _ in range(count)]
        if count > 1 and self.random.random() < 0.2:
            texts[-1] = texts[0]
        return texts

    def _next(self) -> str:
        self._number += 1
        words = self.random.choices(_WORDS, k=self.random.randrange(_MAX_WORDS))
        return " ".join([self._name, str(self._number), *words])
