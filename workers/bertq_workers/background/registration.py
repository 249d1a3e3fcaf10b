"""Thread that renews a worker's info, and its claims on queues, in Redis."""

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
    """A thread that renews the worker info and the claims.

    Celery's timers run on the thread of its event loop. That thread is blocked during a reconnect
    to the broker, and during a shutdown while the worker finishes its chunks; the worker would look
    dead.

    Attributes:
        info: the published worker info; set by ``hold``, and may be replaced until ``announce``.
    """

    def __init__(self, url: Callable[[], str], meter: Meter, leave: Callable[[str], None]) -> None:
        """``leave`` is called with a reason if another model has claimed a queue."""
        self.info: WorkerInfo | None = None
        self._url = url
        self._meter = meter
        self._leave = leave
        # Plain flags instead of Events, because signal handlers set them.
        self._ready = self._leaving = False
        self._bell = WakeUp()
        self._thread: threading.Thread | None = None

    def hold(self, info: WorkerInfo) -> None:
        """Start to renew the claims of an admitted worker."""
        self.info = info
        self._thread = threading.Thread(target=self._run, name="bertq-registration", daemon=True)
        self._thread.start()

    def announce(self) -> None:
        """Publish the worker info and start to renew it: the worker is ready."""
        if not self._ready:
            self._meter.start()
            self._ready = True
            self._bell.ring()

    def withdraw(self) -> None:
        """Have the thread withdraw info and claims.

        This method does not wait, so signal handlers may call it.
        """
        self._leaving = True
        self._bell.ring()

    def stop(self) -> None:
        """Withdraw info and claims, and wait for it for a bounded time."""
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
                except Exception as error:  # the thread must not end
                    if not silent:
                        log.warning("the worker's registration cannot be renewed: %s", code(error))
                    silent = True
                if not self._leaving:
                    self._bell.wait(keys.WORKER_TTL_SECONDS / 3)
            self._take_back(redis)

    def _renew_claims(self, redis: Redis) -> None:
        info = self._published()
        for queue in admission.claimed(info):
            holder = claims.take(redis, queue, info.fingerprint)
            if holder != info.fingerprint:
                # Redis could not be reached, or restarted empty, for long enough that other workers
                # could claim the queue.
                whose = admission.describe(redis, queue, holder)
                self._leave(f"queue {queue} is now held by {whose}")
                self._leaving = True
                return

    def _take_back(self, redis: Redis) -> None:
        info = self._published()
        try:
            worker_info.withdraw(redis, info)
            for queue in admission.claimed(info):
                claims.release(redis, queue, info.fingerprint)
        except RedisError:
            log.debug("the worker's registration is left to expire")

    def _published(self) -> WorkerInfo:
        assert self.info is not None  # set by hold
        work = replace(self._meter.read(), memory=process.memory())
        return replace(self.info, work=work)


def _look_for_namesake(redis: Redis, info: WorkerInfo) -> None:
    for other in worker_info.read(redis):
        if other.node == info.node and not _is_gone(other):
            log.warning(
                "another worker named %s is alive, or was seconds ago: two of one name hide each "
                "other; give each its own with -n",
                info.node,
            )


def _is_gone(other: WorkerInfo) -> bool:
    """Return whether it ran on this machine, as a process that does not exist any more."""
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
