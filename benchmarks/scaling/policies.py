"""Policies: the number of workers, as scalers of Kubernetes choose it.

KEDA and the HPA look every 15 s. With an ``AverageValue``, the number of workers is a metric
divided by its target, rounded up; of several metrics the largest number counts. A change of less
than 10 % is ignored. In 15 s the number may double, or grow by four if that is more. It falls only
to the highest number that was wanted within the stabilization window.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

POLL_SECONDS = 15.0
_TOLERANCE = 0.1
_MIN_STEP = 4


@dataclass(frozen=True)
class Seen:
    """The state of the service, as a scaler sees it.

    Attributes:
        chunks: chunks waiting on the queue of large requests, and on that of small ones.
        work_seconds: seconds that one worker would need for them.
        busy_workers: workers that computed, on average over the last minute.
    """

    chunks: tuple[int, int]
    work_seconds: float
    busy_workers: float


@dataclass
class Policy:
    """A policy.

    Attributes:
        name: its name on the page.
        target: returns the number of workers that would be right.
        low, high: bounds on the number.
        window_seconds: the stabilization window.
    """

    name: str
    target: Callable[[Seen], float]
    low: int = 2
    high: int = 64
    window_seconds: float = 300.0
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)

    def choose(self, now: float, current: int, seen: Seen) -> int:
        """Return the number of workers from now on."""
        exact = self.target(seen)
        wanted = current if abs(exact / current - 1) <= _TOLERANCE else math.ceil(exact)
        wanted = min(max(wanted, self.low), self.high)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - self.window_seconds:
            self._wanted.popleft()
        if wanted > current:
            return min(wanted, max(2 * current, current + _MIN_STEP))
        return min(current, max(number for _, number in self._wanted))


def fixed(count: int) -> Policy:
    """Return the policy that never changes the number."""
    return Policy(f"{count} workers, always", lambda _: count, count, count)


def by_length(chunks: int, small_chunks: int) -> Policy:
    """Return the policy of a worker for so many waiting chunks."""
    return Policy(
        f"a worker for {chunks} waiting chunks",
        lambda seen: max(seen.chunks[0] / chunks, seen.chunks[1] / small_chunks),
    )


def by_work(seconds: float, max_busy: float | None = None, window_seconds: float = 300.0) -> Policy:
    """Return the policy of a worker for so many seconds of waiting work.

    Args:
        seconds: the seconds.
        max_busy: with it, also as many workers that none is busier than this share of the time.
        window_seconds: the stabilization window.
    """

    def target(seen: Seen) -> float:
        busy = 0.0 if max_busy is None else seen.busy_workers / max_busy
        return max(seen.work_seconds / seconds, busy)

    name = f"a worker for {seconds:g} s of waiting work"
    if max_busy is not None:
        name += f", and busy for at most {100 * max_busy:g} %"
    if window_seconds != Policy.window_seconds:
        name += f"; window of {window_seconds:g} s"
    return Policy(name, target, window_seconds=window_seconds)
