"""Threads without which a worker cannot continue."""

import threading
from collections.abc import Callable

from bertq_workers.celery_compat.shutdown import exit_after_error


class WorkerThread(threading.Thread):
    """A daemon thread that ends the worker if it fails.

    Without the thread, the worker would seem to be alive, and would renew chunks that nobody
    computes.

    Args:
        name: name of the thread.
        target: runs on the thread; handles all errors that it expects.
        on_error: called with the name of the thread and the error; ends the worker.
    """

    def __init__(
        self,
        name: str,
        target: Callable[[], object],
        on_error: Callable[[str, BaseException], object] = exit_after_error,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._run_target = target
        self._on_error = on_error

    def run(self) -> None:
        """Run the target."""
        try:
            self._run_target()
        except BaseException as error:
            self._on_error(f"thread {self.name}", error)
