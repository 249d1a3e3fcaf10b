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
    """Counts chunks; safe to use from many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._work = Work()
        self._recent: deque[tuple[float, int, float]] = deque()  # (end, sentences, seconds)

    def start(self) -> None:
        """Count from now: the worker is ready."""
        with self._lock:
            self._started = self._clock()

    def add(self, sentences: int, tokens: int, seconds: float) -> None:
        """Count a chunk that was answered with rows."""
        with self._lock:
            done = self._work
            self._work = replace(
                done,
                chunks=done.chunks + 1,
                sentences=done.sentences + sentences,
                tokens=done.tokens + tokens,
                busy_seconds=done.busy_seconds + seconds,
            )
            self._recent.append((self._clock(), sentences, seconds))
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
            # The oldest chunk may have begun before the window.
            busy = sum(min(seconds, end - (now - span)) for end, _, seconds in self._recent)
            return replace(
                self._work,
                sentences_per_second=sum(count for _, count, _ in self._recent) / span,
                busy=min(1.0, busy / span),
            )

    def _forget(self) -> float:
        now = self._clock()
        while self._recent and self._recent[0][0] <= now - WINDOW:
            self._recent.popleft()
        return now
