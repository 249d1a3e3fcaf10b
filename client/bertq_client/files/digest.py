"""A digest of the encoded sentences and their line numbers.

It covers the rows that are saved, also of standard input. ``source.Identity`` has another digest,
of the bytes of a whole file, which is known before the first request.
"""

import hashlib
import json
from collections.abc import Iterable

from bertq_client.files.line import Sentence


class LineDigest:
    """A digest that is equal for equal sentences in the same lines."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=32)

    def add(self, sentences: Iterable[tuple[int, Sentence]]) -> None:
        """Add sentences, each with its line number."""
        for number, sentence in sentences:
            text = sentence if isinstance(sentence, str) else json.dumps(sentence)
            data = text.encode()
            # Includes the length, because a sentence from a JSON file may have line breaks.
            self._hash.update(b"%d %d " % (number, len(data)) + data)

    def extended(self, sentences: Iterable[tuple[int, Sentence]]) -> "LineDigest":
        """Return a copy of this digest with more sentences added."""
        copy = LineDigest()
        copy._hash = self._hash.copy()
        copy.add(sentences)
        return copy

    def digest(self) -> str:
        """Return the current digest, in hexadecimal."""
        return self._hash.hexdigest()
