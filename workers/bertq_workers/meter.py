"""What a worker has done: totals since it was ready, and rates over the last minute."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from bertq.adverts import Work

#: Seconds that the rates look back.
WINDOW = 60.0


class Meter:
    """Counts chunks and batches; safe to use from many threads.

    Attributes:
        lanes: batches that may run at the same time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lanes = 1
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._work = Work()
        self._answers: deque[tuple[float, int]] = deque()  # (time, sentences)
        self._batches: deque[tuple[float, int, float]] = deque()  # (end, rows, seconds)

    def start(self) -> None:
        """Count from now: the worker is ready."""
        with self._lock:
            self._started = self._clock()

    def add(self, sentences: int, tokens: int) -> None:
        """Count a chunk that was answered with rows."""
        with self._lock:
            done = self._work
            self._work = replace(
                done,
                chunks=done.chunks + 1,
                sentences=done.sentences + sentences,
                tokens=done.tokens + tokens,
            )
            self._answers.append((self._clock(), sentences))
            self._forget()

    def computed(self, rows: int, seconds: float) -> None:
        """Count a batch that has run."""
        with self._lock:
            done = self._work
            self._work = replace(
                done, batches=done.batches + 1, busy_seconds=done.busy_seconds + seconds
            )
            self._batches.append((self._clock(), rows, seconds))
            self._forget()

    def failed(self) -> None:
        """Count a chunk that was answered with an error."""
        with self._lock:
            self._work = replace(self._work, failures=self._work.failures + 1)

    def read(self) -> Work:
        """Return the totals and the rates."""
        with self._lock:
            now = self._forget()
            span = max(min(WINDOW, now - self._started), 1e-3)
            # The oldest batch may have begun before the window.
            busy = sum(min(seconds, end - (now - span)) for end, _, seconds in self._batches)
            rows = sum(count for _, count, _ in self._batches)
            return replace(
                self._work,
                sentences_per_second=sum(count for _, count in self._answers) / span,
                busy=min(1.0, busy / span / self.lanes),
                batch_rows=rows / max(len(self._batches), 1),
            )

    def _forget(self) -> float:
        now = self._clock()
        while self._answers and self._answers[0][0] <= now - WINDOW:
            self._answers.popleft()
        while self._batches and self._batches[0][0] <= now - WINDOW:
            self._batches.popleft()
        return now
