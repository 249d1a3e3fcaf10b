"""Watchdog that ends a worker with a hanging graph; a thread cannot be ended, a process can."""

import time
from collections.abc import Callable

from bertq_workers.background.worker_thread import WorkerThread
from bertq_workers.celery_compat.shutdown import exit_process

#: Checks within a timeout, and the maximum time between two checks.
_CHECKS_PER_TIMEOUT, _MAX_INTERVAL_SECONDS = 4, 5.0


class Watchdog:
    """A thread that checks how long a batch has been running.

    Nothing else would end a hanging worker: its heartbeat continues, so no other worker gets its
    chunks, and its event loop waits for the pool.
    """

    def __init__(self, oldest_batch_seconds: Callable[[], float], timeout_seconds: float) -> None:
        """``oldest_batch_seconds`` returns for how long the oldest batch has been running."""
        self._oldest_batch_seconds = oldest_batch_seconds
        self._timeout_seconds = timeout_seconds
        WorkerThread("bertq-watchdog", self._run).start()

    def _run(self) -> None:
        interval_seconds = min(self._timeout_seconds / _CHECKS_PER_TIMEOUT, _MAX_INTERVAL_SECONDS)
        while self._oldest_batch_seconds() <= self._timeout_seconds:
            time.sleep(interval_seconds)
        exit_process(
            f"the graph has computed one batch for more than {self._timeout_seconds:g} s "
            "(BERTQ_BATCH_TIMEOUT); other workers will receive its chunks"
        )
