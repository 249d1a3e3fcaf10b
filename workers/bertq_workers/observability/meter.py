"""Counters of a worker: totals since it was ready, and rates over the last minute.

The worker info and the metrics are both made from these counters.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bertq.protocol import queues
from bertq.state.worker_info import WorkerStats
from bertq_workers.observability.distributions import Distributions

#: Time covered by the rates.
WINDOW_SECONDS = 60.0


@dataclass
class _SecondOfWork:
    """The work done in one second. The number of such records is bounded."""

    sentences: int = 0
    large_chunks: int = 0
    small_chunks: int = 0
    small_sentences: int = 0
    batches: int = 0
    rows: int = 0
    busy_seconds: float = 0.0


class Meter:
    """Counts chunks and batches; safe to use from many threads.

    Attributes:
        lanes: batches that may run at the same time.
        oldest_batch_seconds: returns the seconds for which the oldest batch has been running.
        held_chunks: returns the number of chunks that were taken and not answered yet.
        distributions: the distributions of the work.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lanes = 1
        self.oldest_batch_seconds: Callable[[], float] = lambda: 0.0
        self.held_chunks: Callable[[], int] = lambda: 0
        self.distributions = Distributions()
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._totals: Counter[str] = Counter()  # by field of WorkerStats
        self._busy_seconds = 0.0
        self._seconds: dict[int, _SecondOfWork] = {}  # by whole seconds of the clock
        self._latest: dict[str, Any] = {}  # of the last minute with work, by field of WorkerStats

    def start(self) -> None:
        """Start the clock of the rates: the worker is ready."""
        with self._lock:
            self._started = self._clock()

    def count_chunk(
        self, sentences: int, tokens: int, truncated: int = 0, waited: float | None = None
    ) -> None:
        """Count a chunk that was answered with rows.

        Args:
            sentences: its rows.
            tokens: the wordpieces of its sentences.
            truncated: how many of its sentences were truncated.
            waited: seconds from sending the chunk to computing it for the first time, if known.
        """
        with self._lock:
            self._totals["chunks"] += 1
            self._totals["sentences"] += sentences
            self._totals["tokens"] += tokens
            self._totals["truncated"] += truncated
            last = self._second(self._clock())
            last.sentences += sentences
            if sentences <= queues.PRIORITY_BATCH_SIZE:
                last.small_chunks += 1
                last.small_sentences += sentences
            else:
                last.large_chunks += 1
        if waited is not None:
            # The clocks of two machines may differ.
            self.distributions.queue_wait_seconds.observe(max(0.0, waited))

    def count_batch(self, rows: int, share: float, seconds: float) -> None:
        """Count a batch that has run, with its share of the budget, 0 to 1."""
        with self._lock:
            self._totals["batches"] += 1
            self._busy_seconds += seconds
            end = self._clock()
            last = self._second(end)
            last.batches += 1
            last.rows += rows
            # The lane was also busy in the seconds before; count those within the window of the
            # rates.
            start = max(end - seconds, end - WINDOW_SECONDS)
            while end > start:
                since = max(start, math.ceil(end) - 1)
                self._second(since).busy_seconds += end - since
                end = since
        self.distributions.batch_rows.observe(rows)
        self.distributions.batch_fill.observe(share)
        self.distributions.compute_seconds.observe(seconds)

    def count_failed(self) -> None:
        """Count a chunk that was answered with an error."""
        with self._lock:
            self._totals["failures"] += 1

    def count_rejected(self) -> None:
        """Count a chunk that was answered with an error because of its caller's mistake."""
        with self._lock:
            self._totals["rejected"] += 1

    def count_redelivered(self) -> None:
        """Count a chunk that is begun again."""
        with self._lock:
            self._totals["redelivered"] += 1

    def count_stored(self, seconds: float) -> None:
        """Count a stored result, and the seconds that storing it took."""
        self.distributions.store_seconds.observe(seconds)

    def read(self) -> WorkerStats:
        """Return the totals, the rates, and the seconds of the oldest running batch."""
        with self._lock:
            now = self._clock()
            span = max(min(WINDOW_SECONDS, now - self._started), 1e-3)
            recent = [
                work for second, work in self._seconds.items() if second >= now - WINDOW_SECONDS
            ]
            batches = sum(work.batches for work in recent)
            self._update_latest(recent)
            return WorkerStats(
                **self._totals,
                **self._latest,
                busy_seconds=self._busy_seconds,
                sentences_per_second=sum(work.sentences for work in recent) / span,
                busy=min(1.0, sum(work.busy_seconds for work in recent) / span / self.lanes),
                batch_rows=sum(work.rows for work in recent) / max(batches, 1),
                batch_seconds=self.oldest_batch_seconds(),
                held_chunks=self.held_chunks(),
            )

    def _update_latest(self, recent: list[_SecondOfWork]) -> None:
        sentences = sum(work.sentences for work in recent)
        small = sum(work.small_sentences for work in recent)
        for name, part, whole in (
            (
                "max_sentences_per_second",
                sentences,
                sum(work.busy_seconds for work in recent) / self.lanes,
            ),
            ("chunk_sentences", sentences - small, sum(work.large_chunks for work in recent)),
            ("small_chunk_sentences", small, sum(work.small_chunks for work in recent)),
        ):
            if part and whole:
                self._latest[name] = part / whole

    def _second(self, now: float) -> _SecondOfWork:
        number = math.floor(now)
        if number not in self._seconds:
            # Remove old seconds only at twice the window, so that few calls search the records.
            if len(self._seconds) >= 2 * WINDOW_SECONDS:
                oldest = number - WINDOW_SECONDS
                self._seconds = {
                    second: work for second, work in self._seconds.items() if second >= oldest
                }
            self._seconds[number] = _SecondOfWork()
        return self._seconds[number]
