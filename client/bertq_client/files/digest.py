"""A digest of the sentences that were encoded, with the lines where they stood."""

import hashlib
import json
from collections.abc import Iterable

from bertq_client.files.line import Sentence


class LineDigest:
    """The same sentences in the same lines have the same digest."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=32)

    def add(self, sentences: Iterable[tuple[int, Sentence]]) -> None:
        """Take in sentences, each with the number of its line."""
        for number, sentence in sentences:
            text = sentence if isinstance(sentence, str) else json.dumps(sentence)
            data = text.encode()
            # With its length: a sentence of a JSON file may have line breaks.
            self._hash.update(b"%d %d " % (number, len(data)) + data)

    def further(self, sentences: Iterable[tuple[int, Sentence]]) -> "LineDigest":
        """Return that of these sentences after those that it has."""
        trace = LineDigest()
        trace._hash = self._hash.copy()
        trace.add(sentences)
        return trace

    def digest(self) -> str:
        """Return the digest so far, in hexadecimal."""
        return self._hash.hexdigest()
