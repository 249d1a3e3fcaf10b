"""Heartbeat for the unacknowledged chunks of a worker.

kombu delivers a message to another worker once ``visibility_timeout`` seconds have passed since its
delivery, whether its worker is alive or not. A living worker therefore renews the delivery time of
its unacknowledged chunks again and again. This allows a short timeout, so the chunks of a dead
worker are soon delivered again.

A channel may wait for the answer of a frozen primary. The commands of the thread have a timeout:
when it reaches the new primary, the channels connect again (``bertq.redis.primary``).
"""

from collections.abc import Sequence

from redis import Redis

from bertq_workers.background.redis_thread import RedisThread
from bertq_workers.celery_compat.unacked import QoS


class Heartbeat:
    """A thread that renews unacknowledged chunks."""

    def __init__(self, url: str, interval_seconds: float) -> None:
        """Several intervals must fit into the visibility timeout."""
        self._channels: Sequence[QoS] = ()
        self._thread = RedisThread(
            "bertq-heartbeat",
            url,
            self._renew,
            interval_seconds=interval_seconds,
            failure="unacknowledged chunks cannot be renewed",
        )

    def renew_for(self, channels: Sequence[QoS]) -> None:
        """Renew the chunks of these channels instead of the earlier ones, after a reconnect."""
        self._channels = channels
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; does not wait."""
        self._thread.stop()

    def _renew(self, redis: Redis) -> None:
        for qos in self._channels:
            qos.renew(redis)
