"""Ending a worker whose graph hangs: a thread cannot be ended, a process can."""

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger("bertq.worker")

#: Looks within a timeout, and the most seconds between two.
_LOOKS, _LONGEST = 4, 5.0


class Watchdog:
    """Looks at how long a batch takes.

    Nothing else would end a worker that hangs: its heartbeat goes on, so that no other is given
    its chunks, and its event loop waits for the pool.
    """

    def __init__(self, longest: Callable[[], float], timeout: float) -> None:
        """``longest`` returns the seconds of the oldest batch that is being computed."""
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
        # Not sys.exit, which would end this thread, nor a signal, which waits for the pool.
        os._exit(os.EX_SOFTWARE)
