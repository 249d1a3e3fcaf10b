"""What a client has asked for, and what became of it: counters, in bounded memory."""

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

#: Latencies that are kept, a fair sample of all.
_KEPT = 20_000
#: Messages of errors, and reports of wrong rows, that are kept word by word.
_SAID = 5
_LONGEST = 300

#: How a request ends that its caller gives up.
GIVEN_UP = (CancelledError, Timeout)


class Reservoir:
    """A fair sample of numbers, with how many there were and the greatest of them."""

    def __init__(self, size: int = _KEPT) -> None:
        self.count = 0
        self.most = 0.0
        self._size = size
        self._kept: list[float] = []
        self._random = random.Random(0)

    def add(self, value: float) -> None:
        """Note a number."""
        self.count += 1
        self.most = max(self.most, value)
        if len(self._kept) < self._size:
            self._kept.append(value)
        elif (place := self._random.randrange(self.count)) < self._size:
            self._kept[place] = value

    def document(self) -> dict[str, float]:
        """Return count, median, 99th percentile and maximum."""
        if not self._kept:
            return {"count": 0}
        middle, high = np.percentile(self._kept, (50, 99))
        return {"count": self.count, "p50": float(middle), "p99": float(high), "max": self.most}


class Ticket:
    """A request that is under way, and what must come of it."""

    def __init__(self, ledger: "Ledger", texts: Sequence[str], fickle: bool) -> None:
        self.rows = len(texts)
        self.expected = rows.expected(texts, ledger.dim)
        self.fickle = fickle
        self.began = time.monotonic()
        self.answers = 0
        self._ledger = ledger

    def answer(self, future: "Future[Any]") -> None:
        """Take in what came; the callback of the request's future."""
        self._ledger.take(self, future, time.monotonic() - self.began)


class Ledger:
    """Counts requests and compares their rows; safe to use from many threads.

    Attributes:
        dim: numbers in a row.
        resent: chunks that the client has sent again, None where that cannot be seen.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.resent: int | None = None
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._said: list[str] = []
        self._latency = Reservoir()
        self._under_way: set[Ticket] = set()
        self._settled = False
        self._changed = threading.Condition()

    def ask(self, texts: Sequence[str], fickle: bool = False) -> Ticket:
        """Note a request that is about to be sent.

        Args:
            texts: its sentences.
            fickle: whether its caller may give it up.
        """
        ticket = Ticket(self, texts, fickle)
        with self._changed:
            self._counts["requests"] += 1
            self._counts["asked"] += ticket.rows
            self._under_way.add(ticket)
        return ticket

    def take(self, ticket: Ticket, future: "Future[Any]", seconds: float) -> None:
        """Note the end of a request."""
        error = CancelledError() if future.cancelled() else future.exception()
        bad = 0 if error is not None else self._compare(ticket, future.result())
        with self._changed:
            ticket.answers += 1
            if ticket.answers > 1:
                self._counts["doubled"] += 1
                return
            if self._settled:
                return  # it was lost for as long as anybody would wait
            self._under_way.discard(ticket)
            self._counts["wrong"] += bad
            if error is None:
                self._counts["answered_requests"] += 1
                self._counts["answered"] += ticket.rows
                self._latency.add(seconds)
            elif ticket.fickle and isinstance(error, GIVEN_UP):
                self._counts["given_up"] += 1
            else:
                self._errors[type(error).__name__] += 1
                self._say(f"{type(error).__name__} after {seconds:.1f} s: {error}")
            self._changed.notify_all()

    def settle(self, seconds: float) -> None:
        """Wait for what is under way; what has not come by then is lost."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, seconds)
            if self._settled:
                return
            self._settled = True
            self._counts["lost"] = len(self._under_way)
            for ticket in self._under_way:
                waited = time.monotonic() - ticket.began
                self._say(f"a request of {ticket.rows} rows, {waited:.0f} s old, has no answer")

    def document(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        names = ("requests", "asked", "answered_requests", "answered", "given_up", "wrong",
                 "doubled", "lost")  # fmt: skip
        with self._changed:
            return {
                **{name: self._counts[name] for name in names},
                "under_way": len(self._under_way),
                "resent": self.resent,
                "errors": dict(self._errors),
                "said": list(self._said),
                "seconds": self._latency.document(),
            }

    def _compare(self, ticket: Ticket, found: Any) -> int:
        """Return how many rows are not what they must be."""
        array = np.asarray(found)
        if array.shape != ticket.expected.shape:
            self._say(f"the answer to {ticket.rows} sentences has the shape {array.shape}")
            return ticket.rows
        bad = np.flatnonzero((array != ticket.expected).any(axis=1))
        if bad.size:
            self._say(f"{bad.size} of {ticket.rows} rows are wrong, the first is {bad[0]}")
        return int(bad.size)

    def _say(self, text: str) -> None:
        if len(self._said) < _SAID:
            self._said.append(text[:_LONGEST])
