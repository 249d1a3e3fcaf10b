"""The thread that keeps a worker's advert, and its claims on queues, alive in Redis."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace

from celery.utils.nodenames import gethostname, nodesplit
from redis import Redis, RedisError

from bertq.protocol import keys
from bertq.redis.connection import connect
from bertq.redis.outage import code
from bertq.state import claims, worker_info
from bertq.state.worker_info import WorkerInfo
from bertq_workers.celery_compat.wakeup import WakeUp
from bertq_workers.observability.meter import Meter
from bertq_workers.startup import admission, process

log = logging.getLogger("bertq.worker")


class Registration:
    """Renews them from a thread of its own.

    Celery's timers run on the thread of its event loop, which stands still while the broker's
    connection is made anew, and at the end, while what is in the worker is finished; the worker
    would look dead.

    Attributes:
        advert: what is published; set by ``hold``, and may be replaced until ``announce``.
    """

    def __init__(self, url: Callable[[], str], meter: Meter, leave: Callable[[str], None]) -> None:
        """``leave`` is called with a reason when a queue has gone to another model."""
        self.advert: WorkerInfo | None = None
        self._url = url
        self._meter = meter
        self._leave = leave
        # No Events: handlers of signals set them.
        self._ready = self._leaving = False
        self._bell = WakeUp()
        self._thread: threading.Thread | None = None

    def hold(self, advert: WorkerInfo) -> None:
        """Renew the claims of an admitted worker from now on."""
        self.advert = advert
        self._thread = threading.Thread(target=self._run, name="bertq-advert", daemon=True)
        self._thread.start()

    def announce(self) -> None:
        """Publish the advert, and go on renewing it: the worker is ready."""
        if not self._ready:
            self._meter.start()
            self._ready = True
            self._bell.ring()

    def withdraw(self) -> None:
        """Have the thread take everything back; does not wait, for signal handlers."""
        self._leaving = True
        self._bell.ring()

    def stop(self) -> None:
        """Take everything back and wait for it, for a bounded time."""
        self.withdraw()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        silent = introduced = False
        with connect(self._url()) as redis:
            while not self._leaving:
                try:
                    self._renew_claims(redis)
                    if self._ready and not self._leaving:
                        if not introduced:
                            _look_for_namesake(redis, self._published())
                            introduced = True
                        worker_info.publish(redis, self._published())
                    silent = False
                except Exception as error:  # the thread goes on, whatever it has met
                    if not silent:
                        log.warning("the advert cannot be renewed: %s", code(error))
                    silent = True
                if not self._leaving:
                    self._bell.wait(keys.WORKER_TTL / 3)
            self._take_back(redis)

    def _renew_claims(self, redis: Redis) -> None:
        advert = self._published()
        for queue in admission.claimed(advert):
            holder = claims.take(redis, queue, advert.fingerprint)
            if holder != advert.fingerprint:
                # Redis was away, or restarted empty, for long enough for others to take over.
                whose = admission.describe(redis, queue, holder)
                self._leave(f"queue {queue} is now held by {whose}")
                self._leaving = True
                return

    def _take_back(self, redis: Redis) -> None:
        advert = self._published()
        try:
            worker_info.withdraw(redis, advert)
            for queue in admission.claimed(advert):
                claims.release(redis, queue, advert.fingerprint)
        except RedisError:
            log.debug("the advert is left to expire")

    def _published(self) -> WorkerInfo:
        assert self.advert is not None  # hold has set it
        work = replace(self._meter.read(), memory=process.memory())
        return replace(self.advert, work=work)


def _look_for_namesake(redis: Redis, advert: WorkerInfo) -> None:
    for other in worker_info.read(redis):
        if other.node == advert.node and not _is_gone(other):
            log.warning(
                "another worker named %s is alive, or was seconds ago: two of one name hide each "
                "other; give each its own with -n",
                advert.node,
            )


def _is_gone(other: WorkerInfo) -> bool:
    """Return whether it ran on this machine, as a process that is no more."""
    if nodesplit(other.node)[1] != gethostname():
        return False
    if other.pid == os.getpid():
        return True  # the first process of a container has the same id each time
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
