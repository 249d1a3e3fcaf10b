"""The thread that keeps a worker's advert in Redis alive."""

import logging
import threading

from celery import Celery
from redis import Redis, RedisError

from bertq import adverts, keys
from bertq.connection import connect

log = logging.getLogger("bertq.worker")


class Advertiser:
    """Renews the advert from a thread of its own.

    The solo pool computes on the thread that runs Celery's timers, so a timer would fall silent
    during a long chunk and the worker would look dead.

    Attributes:
        advert: what to publish; set before ``start``.
    """

    def __init__(self, app: Celery) -> None:
        self.advert: adverts.Advert | None = None
        self._app = app
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Publish the advert, and go on renewing it; once only."""
        if self.advert is not None and self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(self.advert,), name="bertq-advert", daemon=True
            )
            self._thread.start()

    def withdraw(self) -> None:
        """Have the thread take the advert back; does not wait, for signal handlers."""
        self._leaving.set()

    def stop(self) -> None:
        """Take the advert back and wait for it, for a bounded time."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _look_for_namesake(self, redis: Redis, advert: adverts.Advert) -> None:
        if any(other.node == advert.node for other in adverts.read(redis)):
            log.warning(
                "another worker named %s is alive, or was seconds ago: two of one name hide each "
                "other; give each its own with -n",
                advert.node,
            )

    def _run(self, advert: adverts.Advert) -> None:
        silent = introduced = False
        with connect(self._app.conf.broker_url) as redis:
            while not self._leaving.is_set():
                try:
                    if not introduced:
                        self._look_for_namesake(redis, advert)
                        introduced = True
                    adverts.publish(redis, advert)
                    silent = False
                except RedisError as error:
                    if not silent:
                        log.warning("the advert cannot be renewed: %s", type(error).__name__)
                    silent = True
                self._leaving.wait(keys.WORKER_TTL / 3)
            try:
                adverts.withdraw(redis, advert)
            except RedisError:
                log.debug("the advert is left to expire")
