"""Signs of life for the chunks that a worker holds.

kombu gives a message to another worker once its delivery is ``visibility_timeout`` seconds ago,
whether its worker lives or not. So that this can be short, and a chunk of a dead worker soon be
taken up, a living worker says again and again that what it holds was delivered now.

Relies on the inside of kombu 5.7 (the version is pinned, and tests/workers/test_heartbeat.py looks
at it): ``unacked_index_key`` of a channel's QoS is a sorted set of tags by the time of delivery.
"""

import logging
import threading
import time
from collections.abc import Sequence

from redis import Redis

from bertq.redis.connection import connect
from bertq.redis.outage import code
from bertq_workers.celery_compat.unacked import QoS

log = logging.getLogger("bertq.worker")


class Heartbeat:
    """Renews them from a thread of its own.

    Celery's event loop, where kombu would do it, stands still at the end, while what is in the
    worker is finished.
    """

    def __init__(self, url: str, every: float) -> None:
        """``every`` is in seconds; a few must fit into the visibility timeout."""
        self._url = url
        self._every = every
        self._watched: Sequence[QoS] = ()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, channels: Sequence[QoS]) -> None:
        """Renew what these hold, in place of those before: a connection was made anew."""
        self._watched = channels
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bertq-heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Renew nothing any more."""
        self._end.set()

    def _run(self) -> None:
        silent = False
        with connect(self._url) as redis:
            while not self._end.wait(self._every):
                try:
                    for qos in self._watched:
                        beat(redis, qos)
                    silent = False
                except Exception as error:  # the thread goes on, whatever it has met
                    if not silent:
                        log.warning("held chunks cannot be renewed: %s", code(error))
                    silent = True


def beat(redis: Redis, qos: QoS) -> None:
    """Say that what a channel holds was delivered now; what is acknowledged stays so."""
    if tags := qos.held():
        now = time.time()
        redis.zadd(qos.unacked_index_key, dict.fromkeys(tags, now), xx=True)
