"""The batches that a device has, and since when it computes each."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class RunningBatch:
    """A batch that a device computes, or that waits for it.

    Attributes:
        started: the time at which the device could begin, on the monotonic clock; None while it
            computes earlier batches.
    """

    started: float | None = None

    def seconds(self) -> float:
        """Return the time since the device could begin."""
        return 0.0 if self.started is None else time.monotonic() - self.started


class RunningBatches:
    """The batches that a device has; safe to use from many threads."""

    def __init__(self, lanes: int) -> None:
        """Create the list.

        Args:
            lanes: batches that the device computes at the same time; others wait for these.
        """
        self._lanes = lanes
        self._changed = threading.Condition()
        self._batches: list[RunningBatch] = []

    @contextmanager
    def add(self) -> Iterator[RunningBatch]:
        """Add a batch, until the block ends."""
        batch = RunningBatch()
        with self._changed:
            self._batches.append(batch)
            self._note_starts()
        try:
            yield batch
        finally:
            with self._changed:
                self._batches.remove(batch)
                self._note_starts()
                self._changed.notify_all()

    def oldest_seconds(self) -> float:
        """Return the seconds for which the oldest batch has been computed; 0 without a batch."""
        with self._changed:
            return max((batch.seconds() for batch in self._batches), default=0.0)

    def wait_for_end(self) -> None:
        """Wait until the device has no batch."""
        with self._changed:
            while self._batches:
                self._changed.wait()

    def _note_starts(self) -> None:
        for batch in self._batches[: self._lanes]:
            if batch.started is None:
                batch.started = time.monotonic()
