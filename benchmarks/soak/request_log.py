"""Counts of a client's requests and their outcome, in bounded memory."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np

from benchmarks.soak import rows
from bertq.errors import Timeout

#: Size of the random sample of latencies.
_SAMPLE_SIZE = 20_000
#: Messages about errors and wrong rows to keep, and their length.
_MAX_MESSAGES = 5
_MAX_MESSAGE_CHARACTERS = 300

#: Errors of a request that its caller has cancelled.
CANCELLATIONS = (CancelledError, Timeout)


class Sample:
    """A uniform random sample of numbers, with their count and maximum."""

    def __init__(self, size: int = _SAMPLE_SIZE) -> None:
        self.count = 0
        self.maximum = 0.0
        self._size = size
        self._values: list[float] = []
        self._random = random.Random(0)

    def add(self, value: float) -> None:
        """Add a number."""
        self.count += 1
        self.maximum = max(self.maximum, value)
        if len(self._values) < self._size:
            self._values.append(value)
        elif (index := self._random.randrange(self.count)) < self._size:
            self._values[index] = value

    def document(self) -> dict[str, float]:
        """Return count, median, 99th percentile and maximum."""
        if not self._values:
            return {"count": 0}
        median, high = np.percentile(self._values, (50, 99))
        return {"count": self.count, "p50": float(median), "p99": float(high), "max": self.maximum}


class PendingRequest:
    """A request in progress, with the expected rows."""

    def __init__(self, log: "RequestLog", texts: Sequence[str], may_be_cancelled: bool) -> None:
        self.rows = len(texts)
        self.expected = rows.expected_rows(texts, log.dim)
        self.may_be_cancelled = may_be_cancelled
        self.started = time.monotonic()
        self.answers = 0
        self._log = log

    def answer(self, future: "Future[Any]") -> None:
        """Record the answer; the callback of the request's future."""
        self._log.end(self, future, time.monotonic() - self.started)


class RequestLog:
    """Counts requests and compares their rows; safe to use from many threads.

    Attributes:
        dim: numbers in a row.
        resent: chunks that the client has sent again; None if unknown.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.resent: int | None = None
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._messages: list[str] = []
        self._latency = Sample()
        self._pending: set[PendingRequest] = set()
        self._settled = False
        self._changed = threading.Condition()

    def begin(self, texts: Sequence[str], may_be_cancelled: bool = False) -> PendingRequest:
        """Record a request before it is sent.

        Args:
            texts: its sentences.
            may_be_cancelled: whether its caller may cancel it.
        """
        request = PendingRequest(self, texts, may_be_cancelled)
        with self._changed:
            self._counts["requests"] += 1
            self._counts["asked"] += request.rows
            self._pending.add(request)
        return request

    def end(self, request: PendingRequest, future: "Future[Any]", seconds: float) -> None:
        """Record the end of a request."""
        error = CancelledError() if future.cancelled() else future.exception()
        wrong_rows = 0 if error is not None else self._compare(request, future.result())
        with self._changed:
            request.answers += 1
            if request.answers > 1:
                self._counts["doubled"] += 1
                return
            if self._settled:
                return  # it already counts as lost
            self._pending.discard(request)
            self._counts["wrong"] += wrong_rows
            if error is None:
                self._counts["answered_requests"] += 1
                self._counts["answered"] += request.rows
                self._latency.add(seconds)
            elif request.may_be_cancelled and isinstance(error, CANCELLATIONS):
                self._counts["given_up"] += 1
            else:
                self._errors[type(error).__name__] += 1
                self._add_message(f"{type(error).__name__} after {seconds:.1f} s: {error}")
            self._changed.notify_all()

    def wait_until_answered(self, seconds: float) -> None:
        """Wait for the pending requests; those without an answer count as lost."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending, seconds)
            if self._settled:
                return
            self._settled = True
            self._counts["lost"] = len(self._pending)
            for request in self._pending:
                waited = time.monotonic() - request.started
                self._add_message(
                    f"a request of {request.rows} rows, {waited:.0f} s old, has no answer"
                )

    def document(self) -> dict[str, Any]:
        """Return all counts, for JSON."""
        names = ("requests", "asked", "answered_requests", "answered", "given_up", "wrong",
                 "doubled", "lost")  # fmt: skip
        with self._changed:
            return {
                **{name: self._counts[name] for name in names},
                "pending": len(self._pending),
                "resent": self.resent,
                "errors": dict(self._errors),
                "messages": list(self._messages),
                "seconds": self._latency.document(),
            }

    def _compare(self, request: PendingRequest, answer_rows: Any) -> int:
        """Return the number of rows that differ from the expected ones."""
        array = np.asarray(answer_rows)
        if array.shape != request.expected.shape:
            self._add_message(f"the answer to {request.rows} sentences has the shape {array.shape}")
            return request.rows
        wrong_rows = np.flatnonzero((array != request.expected).any(axis=1))
        if wrong_rows.size:
            self._add_message(
                f"{wrong_rows.size} of {request.rows} rows are wrong, the first is {wrong_rows[0]}"
            )
        return int(wrong_rows.size)

    def _add_message(self, text: str) -> None:
        if len(self._messages) < _MAX_MESSAGES:
            self._messages.append(text[:_MAX_MESSAGE_CHARACTERS])
