"""Heartbeat for the unacknowledged chunks of a worker.

kombu delivers a message to another worker once ``visibility_timeout`` seconds have passed since its
delivery, whether its worker is alive or not. A living worker therefore renews the delivery time of
its unacknowledged chunks again and again. This allows a short timeout, so the chunks of a dead
worker are soon delivered again.

Relies on private parts of kombu 5.7 (the version is pinned, and tests/workers/test_heartbeat.py
checks it): ``unacked_index_key`` of a channel's QoS is a sorted set of tags by the time of
delivery.
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
    """A thread that renews unacknowledged chunks.

    kombu would do it in Celery's event loop, which is blocked during a shutdown while the worker
    finishes its chunks.
    """

    def __init__(self, url: str, every: float) -> None:
        """``every`` is in seconds; a few must fit into the visibility timeout."""
        self._url = url
        self._every = every
        self._watched: Sequence[QoS] = ()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, channels: Sequence[QoS]) -> None:
        """Renew the chunks of these channels instead of the earlier ones, after a reconnect."""
        self._watched = channels
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bertq-heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop renewing."""
        self._end.set()

    def _run(self) -> None:
        silent = False
        with connect(self._url) as redis:
            while not self._end.wait(self._every):
                try:
                    for qos in self._watched:
                        beat(redis, qos)
                    silent = False
                except Exception as error:  # the thread must not end
                    if not silent:
                        log.warning("held chunks cannot be renewed: %s", code(error))
                    silent = True


def beat(redis: Redis, qos: QoS) -> None:
    """Set the delivery time of a channel's chunks to now, unless they were acknowledged."""
    if tags := qos.held():
        now = time.time()
        redis.zadd(qos.unacked_index_key, dict.fromkeys(tags, now), xx=True)
