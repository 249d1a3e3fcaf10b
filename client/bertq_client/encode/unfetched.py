"""Requests of ``encode(blocking=False)`` until ``fetch`` returns their results."""

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np

from bertq.protocol.sparse import SparseRows
from bertq_client.futures import MAX_WAIT_SECONDS, EncodeFuture


class UnfetchedRequests:
    """Answers in the order of arrival; several threads may send and fetch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected = 0
        self._finished: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def expect(self, future: EncodeFuture) -> None:
        """Add the answer of a request when it arrives."""
        with self._lock:
            self._expected += 1
        # On the thread that completes the future: the callback thread may be waiting for this one.
        Future.add_done_callback(future, self._finished.put)

    def take(self) -> Iterator[tuple[int, Any]]:
        """Return an iterator of the answers with their request numbers, until none is left."""
        while (future := self._next()) is not None:
            yield future.number, future.result()

    def take_all(self, *, sort: bool, concat: bool) -> Any:
        """Return all answers, in the order of request numbers or of arrival.

        If one of them is an error, the others are put back, and the next call returns them.
        """
        results: list[tuple[int, Any]] = []
        taken: list[EncodeFuture] = []
        try:
            while (future := self._next()) is not None:
                results.append((future.number, future.result()))
                taken.append(future)
        except BaseException:
            with self._lock:
                self._expected += len(taken)
            for future in taken:
                self._finished.put(future)
            raise
        if sort:
            results.sort(key=lambda result: result[0])
        values = [value for _, value in results]
        return join(values) if concat and values else values

    def _next(self) -> EncodeFuture | None:
        """Wait for the next answer, a result or an error; return None if none is expected."""
        with self._lock:
            if not self._expected:
                return None
            self._expected -= 1
        try:
            while True:
                with suppress(queue.Empty):
                    future: EncodeFuture = self._finished.get(timeout=MAX_WAIT_SECONDS)
                    return future
        except BaseException:  # Ctrl-C: the answer will still arrive
            with self._lock:
                self._expected += 1
            raise


def join(values: Sequence[Any]) -> Any:
    """Return the vectors of several requests, at least one, as if they were one request's.

    Token vectors (NONE) are padded with zeros to the greatest length.
    """
    if isinstance(values[0], tuple):  # with their tokens
        rows, tokens = zip(*values, strict=True)
        return join(rows), [row for part in tokens for row in part]
    if isinstance(values[0], list):
        return [row for rows in values for row in rows]
    if isinstance(values[0], SparseRows):
        return SparseRows.concatenate(values)
    if values[0].ndim == 3:
        longest = max(rows.shape[1] for rows in values)
        gaps = [(0, 0), (0, longest), (0, 0)]
        values = [np.pad(rows, gaps)[:, :longest] for rows in values]
    return np.concatenate(values)
