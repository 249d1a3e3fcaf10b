"""Runs the steps of many jobs in turns, on one thread."""

import heapq
import itertools
import time
from collections import deque
from collections.abc import Iterator

#: The steps of a job: each yields the seconds until the next one is due, perhaps 0.
Steps = Iterator[float]


class Schedule:
    """The jobs that are being sent: they take turns, one step each.

    So a job of a million sentences does not delay small ones, and neither does a job that waits.
    """

    def __init__(self) -> None:
        self._due: deque[Steps] = deque()
        #: a heap: the monotonic time of the next step, a number that makes it unique, the steps
        self._waiting: list[tuple[float, int, Steps]] = []
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        """Return whether there are steps left."""
        return bool(self._due or self._waiting)

    def add(self, steps: Steps) -> None:
        """Add the steps of a job; the first one is due."""
        self._due.append(steps)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until a step is due; None if there are no steps."""
        if self._due:
            return 0.0
        if self._waiting:
            return max(0.0, self._waiting[0][0] - time.monotonic())
        return None

    def run_step(self, *, without_waiting: bool = False) -> None:
        """Run the next step that is due, if there is one.

        Args:
            without_waiting: treat all steps as due.
        """
        now = time.monotonic()
        while self._waiting and (without_waiting or self._waiting[0][0] <= now):
            self._due.append(heapq.heappop(self._waiting)[2])
        if not self._due:
            return
        steps = self._due.popleft()
        seconds = next(steps, None)
        if seconds == 0:
            self._due.append(steps)
        elif seconds is not None:
            item = (time.monotonic() + seconds, next(self._numbers), steps)
            heapq.heappush(self._waiting, item)
