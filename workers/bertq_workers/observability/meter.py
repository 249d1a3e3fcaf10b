"""Counters of a worker: totals since it was ready, and rates over the last minute.

The worker info and the metrics are both made from these counters.
"""

import copy
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bertq.state.worker_info import WorkerStats
from bertq_workers.observability.histogram import ROWS, SECONDS, SHARES, Histogram

#: Seconds covered by the rates.
WINDOW = 60.0


@dataclass
class _Second:
    """The work done in one second. The number of such records is bounded."""

    sentences: int = 0
    batches: int = 0
    rows: int = 0
    busy: float = 0.0


@dataclass
class Distributions:
    """The distributions of a worker's work, since it was ready.

    Attributes:
        waited: seconds from sending a chunk to computing it for the first time.
        rows: rows of a batch.
        share: share of its budget that a batch uses.
        computed: seconds to compute a batch.
        stored: seconds to store the result of a chunk.
    """

    waited: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    rows: Histogram = field(default_factory=lambda: Histogram(ROWS))
    share: Histogram = field(default_factory=lambda: Histogram(SHARES))
    computed: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    stored: Histogram = field(default_factory=lambda: Histogram(SECONDS))


class Meter:
    """Counts chunks and batches; safe to use from many threads.

    Attributes:
        lanes: batches that may run at the same time.
        longest: returns the seconds for which the oldest batch has been running.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lanes = 1
        self.longest: Callable[[], float] = lambda: 0.0
        self._clock = clock
        self._spread = Distributions()
        self._lock = threading.Lock()
        self._started = clock()
        self._work = WorkerStats()
        self._seconds: dict[int, _Second] = {}  # by whole seconds of the clock

    def start(self) -> None:
        """Start the clock of the rates: the worker is ready."""
        with self._lock:
            self._started = self._clock()

    def add(self, sentences: int, tokens: int, waited: float | None = None) -> None:
        """Count a chunk that was answered with rows.

        Args:
            sentences: its rows.
            tokens: the wordpieces of its sentences.
            waited: seconds from sending the chunk to computing it for the first time, if known.
        """
        with self._lock:
            done = self._work
            self._work = replace(
                done,
                chunks=done.chunks + 1,
                sentences=done.sentences + sentences,
                tokens=done.tokens + tokens,
            )
            self._second(self._clock()).sentences += sentences
            if waited is not None:
                # The clocks of two machines may differ.
                self._spread.waited.add(max(0.0, waited))

    def computed(self, rows: int, share: float, seconds: float) -> None:
        """Count a batch that has run, with its share of the budget, 0 to 1."""
        with self._lock:
            done = self._work
            self._work = replace(
                done, batches=done.batches + 1, busy_seconds=done.busy_seconds + seconds
            )
            self._spread.rows.add(rows)
            self._spread.share.add(share)
            self._spread.computed.add(seconds)
            end = self._clock()
            last = self._second(end)
            last.batches += 1
            last.rows += rows
            # The lane was also busy in the seconds before; count those within the window of the
            # rates.
            start = max(end - seconds, end - WINDOW)
            while end > start:
                since = max(start, math.ceil(end) - 1)
                self._second(since).busy += end - since
                end = since

    def failed(self) -> None:
        """Count a chunk that was answered with an error."""
        with self._lock:
            self._work = replace(self._work, failures=self._work.failures + 1)

    def again(self) -> None:
        """Count a chunk that is begun again."""
        with self._lock:
            self._work = replace(self._work, redelivered=self._work.redelivered + 1)

    def stored(self, seconds: float) -> None:
        """Count a stored result, and the seconds that storing it took."""
        with self._lock:
            self._spread.stored.add(seconds)

    def spread(self) -> Distributions:
        """Return a copy of the distributions."""
        with self._lock:
            return copy.deepcopy(self._spread)

    def read(self) -> WorkerStats:
        """Return the totals, the rates, and the seconds of the oldest running batch."""
        with self._lock:
            now = self._clock()
            span = max(min(WINDOW, now - self._started), 1e-3)
            seconds = [done for time, done in self._seconds.items() if time >= now - WINDOW]
            batches = sum(second.batches for second in seconds)
            return replace(
                self._work,
                sentences_per_second=sum(second.sentences for second in seconds) / span,
                busy=min(1.0, sum(second.busy for second in seconds) / span / self.lanes),
                batch_rows=sum(second.rows for second in seconds) / max(batches, 1),
                batch_seconds=self.longest(),
            )

    def _second(self, moment: float) -> _Second:
        number = math.floor(moment)
        if number not in self._seconds:
            # Remove old seconds only at twice the window, so that few calls search the records.
            if len(self._seconds) >= 2 * WINDOW:
                oldest = number - WINDOW
                self._seconds = {
                    time: done for time, done in self._seconds.items() if time >= oldest
                }
            self._seconds[number] = _Second()
        return self._seconds[number]
