"""Vectors of earlier small requests, in memory, for queries that come again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertq.errors import SettingsError
from bertq.integers import as_int
from bertq.protocol.encoding import Encoding
from bertq.protocol.sparse import SparseRows
from bertq_client.inputs import Text
from bertq_client.request import Request, RequestAnswer


class CacheInfo(NamedTuple):
    """The work of a client's cache.

    Attributes:
        hits: requests that were answered from the cache.
        misses: requests that could have been, and were sent.
        rows: rows in the cache.
        max_rows: rows that it can have.
    """

    hits: int
    misses: int
    rows: int
    max_rows: int


class _Row(NamedTuple):
    """A row, and what the answer said about its text.

    Attributes:
        numbers: the row, read-only.
        is_cut: whether the text was truncated.
        length: number of tokens read, if the request asked for it.
    """

    numbers: NDArray[Any]
    is_cut: bool
    length: int | None


class VectorCache:
    """The rows that were used last, by model, options and text; safe to use from many threads.

    A request is answered from the cache only if all of its rows are there, so that no answer has
    rows of two models.

    Args:
        max_rows: rows that it can have.

    Raises:
        SettingsError: it is not a whole number, or is negative.
    """

    def __init__(self, max_rows: int) -> None:
        rows = as_int(max_rows)
        if rows is None or rows < 0:
            raise SettingsError(f"cache is {max_rows!r}: it must be a number of rows, 0 for none")
        self._max_rows = rows
        self._rows: OrderedDict[tuple[Encoding, Text], _Row] = OrderedDict()
        self._fingerprint = ""
        self._max_seq_len = 0
        self._hits = self._misses = 0
        # Reentrant: a signal handler may encode something.
        self._lock = threading.RLock()

    @property
    def info(self) -> CacheInfo:
        """Hits, misses and size."""
        with self._lock:
            return CacheInfo(self._hits, self._misses, len(self._rows), self._max_rows)

    def answer(self, request: Request, fingerprint: str | None) -> bool:
        """Answer a request if all of its rows are in the cache; otherwise keep those of its answer.

        Args:
            request: a request that has not been sent.
            fingerprint: fingerprint of the model that would answer now; None if it is not known.

        Returns:
            Whether the request is answered.
        """
        if not self._max_rows or not request.is_small or request.encoding.show_tokens:
            return False
        found = self._find(request, fingerprint)
        if found is None:
            request.on_answer = self._keeper(request)
            return False
        lengths = [row.length for row in found if row.length is not None]
        request.succeed(
            RequestAnswer(
                rows=np.stack([row.numbers for row in found]),
                tokens=None,
                cut_rows=[number for number, row in enumerate(found) if row.is_cut],
                max_seq_len=self._max_seq_len,
                fingerprint=fingerprint or "",
                lengths=np.array(lengths, np.int64) if request.encoding.count_tokens else None,
            )
        )
        return True

    def _find(self, request: Request, fingerprint: str | None) -> list[_Row] | None:
        """Return the rows of a request; None if one is missing, or the model has changed."""
        with self._lock:
            if fingerprint is not None and fingerprint != self._fingerprint:
                self._clear(fingerprint)
            found = []
            if fingerprint is not None:
                for text in request.texts:
                    key = (request.encoding, text)
                    if key not in self._rows:
                        break
                    self._rows.move_to_end(key)
                    found.append(self._rows[key])
            is_hit = len(found) == len(request.texts)
            self._hits += is_hit
            self._misses += not is_hit
            return found if is_hit else None

    def _keeper(self, request: Request) -> Callable[[RequestAnswer], object]:
        """Return a function that keeps the rows of an answer; it does not keep the request."""
        texts, encoding = request.texts, request.encoding
        return lambda answer: self._keep(texts, encoding, answer)

    def _keep(self, texts: Sequence[Text], encoding: Encoding, answer: RequestAnswer) -> None:
        if isinstance(answer.rows, SparseRows) or answer.rows.ndim != 2:
            return
        cut, lengths = set(answer.cut_rows), answer.lengths
        with self._lock:
            if answer.fingerprint != self._fingerprint:
                self._clear(answer.fingerprint)
            if cut:
                self._max_seq_len = answer.max_seq_len
            for number, text in enumerate(texts):
                length = None if lengths is None else int(lengths[number])
                # A copy: the caller may change the array that it gets.
                row = _Row(answer.rows[number].copy(), number in cut, length)
                self._rows[encoding, text] = row
                self._rows.move_to_end((encoding, text))
            while len(self._rows) > self._max_rows:
                self._rows.popitem(last=False)

    def _clear(self, fingerprint: str) -> None:
        self._rows.clear()
        self._fingerprint = fingerprint
