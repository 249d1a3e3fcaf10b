"""Watchdog that ends a worker with a hanging graph; a thread cannot be ended, a process can."""

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger("bertq.worker")

#: Checks within a timeout, and the maximum seconds between two checks.
_LOOKS, _LONGEST = 4, 5.0


class Watchdog:
    """A thread that checks how long a batch has been running.

    Nothing else would end a hanging worker: its heartbeat continues, so no other worker gets its
    chunks, and its event loop waits for the pool.
    """

    def __init__(self, longest: Callable[[], float], timeout: float) -> None:
        """``longest`` returns the seconds for which the oldest batch has been running."""
        self._longest = longest
        self._timeout = timeout
        threading.Thread(target=self._run, name="bertq-watchdog", daemon=True).start()

    def _run(self) -> None:
        while self._longest() <= self._timeout:
            time.sleep(min(self._timeout / _LOOKS, _LONGEST))
        log.critical(
            "this worker ends: the graph has computed one batch for more than %g s "
            "(BERTQ_BATCH_TIMEOUT); other workers will be given its chunks",
            self._timeout,
        )
        logging.shutdown()
        # sys.exit would end only this thread, and a signal would wait for the pool.
        os._exit(os.EX_SOFTWARE)
