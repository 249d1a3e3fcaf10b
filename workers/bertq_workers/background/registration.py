"""Thread that renews a worker's info, and its claims and the life of its queues, in Redis."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace

from redis import Redis, RedisError

from bertq.protocol import time_to_live
from bertq.state import claims, drain, queue_expiry, worker_info
from bertq.state.worker_info import WorkerInfo
from bertq_workers.background.redis_thread import RedisThread
from bertq_workers.celery_compat import worker_setup
from bertq_workers.observability.meter import Meter
from bertq_workers.startup import admission, process

log = logging.getLogger("bertq.worker")

#: Time to withdraw a worker's info and claims when it ends.
_WITHDRAW_SECONDS = 2.0


class Registration:
    """Renews the claims of an admitted worker and, once it is ready, its info.

    Attributes:
        info: the worker info to publish; may be replaced until ``publish``.

    Args:
        url: address of Redis.
        info: the worker info to publish.
        meter: the work of the worker.
        end_worker: called with a reason if another model has claimed a queue.
        drain_worker: called with the maximum seconds if somebody asks the worker to drain.
        interval_seconds: time between two renewals; info and claims expire after three.
    """

    def __init__(
        self,
        url: str,
        info: WorkerInfo,
        meter: Meter,
        end_worker: Callable[[str], None],
        drain_worker: Callable[[float], None],
        interval_seconds: float = time_to_live.WORKER_SECONDS / 3,
    ) -> None:
        self.info = info
        self._meter = meter
        self._end_worker = end_worker
        self._drain_worker = drain_worker
        self._is_ready = self._name_was_checked = self._has_published = False
        self._was_asked_to_drain = self._must_drain = self._is_withdrawn = False
        self._thread = RedisThread(
            "bertq-registration",
            url,
            self._renew,
            interval_seconds=interval_seconds,
            failure="the worker's registration cannot be renewed",
            on_stop=self._withdraw,
        )

    def start(self) -> None:
        """Start to renew the claims."""
        self._thread.start()

    def publish(self) -> None:
        """Publish the worker info and start to renew it: the worker is ready."""
        if not self._is_ready:
            self._meter.start()
            self._is_ready = True
            self._thread.wake()

    def drain(self) -> None:
        """Have the thread withdraw info and claims, and show that the worker drains.

        Does not wait, for signal handlers.
        """
        self._must_drain = True
        self._thread.wake()

    def withdraw(self) -> None:
        """Have the thread withdraw info and claims; does not wait, for signal handlers."""
        self._thread.stop()

    def stop(self) -> None:
        """Withdraw info and claims, and wait for it for a bounded time."""
        self._thread.stop()
        self._thread.join(_WITHDRAW_SECONDS)

    def take_claims(self, redis: Redis) -> bool:
        """Take or renew the claims; end the worker and return False if another model has one.

        Also called before the worker takes chunks from a server that it has connected to: after a
        failover, the new primary may not have the claims.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        if self._must_drain or self._was_asked_to_drain:
            return True
        for queue in admission.claimed_queues(self.info):
            holder = claims.take(redis, queue, self.info.fingerprint)
            if holder != self.info.fingerprint:
                if self._begin_to_drain(redis):  # bertq models switch has done both
                    return True
                # Redis could not be reached, or has lost the claim, for long enough that other
                # workers could claim the queue.
                owner = admission.describe_holder(redis, queue, holder)
                self._end_worker(f"queue {queue} is now claimed by {owner}")
                self._thread.stop()
                return False
        return True

    def _renew(self, redis: Redis) -> None:
        if self._must_drain:
            # First: the worker is in one of the two lists at any time.
            worker_info.publish(redis, self._describe(), worker_info.DRAINING)
            if not self._is_withdrawn:
                self._is_withdrawn = True
                self._withdraw_claims(redis)
            return
        if not self._was_asked_to_drain and self._begin_to_drain(redis):
            return
        if self.take_claims(redis) and self._is_ready:
            if not self._name_was_checked:
                _warn_of_same_name(redis, self.info)
                self._name_was_checked = True
            worker_info.publish(redis, self._describe())
            if not self._has_published:
                self._has_published = True
                worker_info.withdraw(redis, self.info, worker_info.STANDBY)
            queue_expiry.extend_served(redis, self.info.queues)

    def _begin_to_drain(self, redis: Redis) -> bool:
        """Drain the worker if somebody has asked for it; return whether that is so."""
        seconds = drain.read(redis, self.info.instance) if self._is_ready else None
        if seconds is None:
            return False
        self._was_asked_to_drain = True
        self._drain_worker(seconds)  # which calls ``drain`` on the main thread
        return True

    def _withdraw(self, redis: Redis) -> None:
        try:
            if self._is_withdrawn:
                worker_info.withdraw(redis, self.info, worker_info.DRAINING)
            self._withdraw_claims(redis)
        except (RedisError, OSError):
            log.debug("the worker's registration was not withdrawn, and will expire")

    def _withdraw_claims(self, redis: Redis) -> None:
        worker_info.withdraw(redis, self.info)
        for queue in admission.claimed_queues(self.info):
            claims.release(redis, queue, self.info.fingerprint)

    def _describe(self) -> WorkerInfo:
        return replace(self.info, work=replace(self._meter.read(), memory=process.memory()))


def _warn_of_same_name(redis: Redis, info: WorkerInfo) -> None:
    for other in worker_info.read(redis):
        if other.node == info.node and not _has_ended(other):
            log.warning(
                "another worker named %s is alive, or was seconds ago: only one of them is shown; "
                "give each its own name with -n",
                info.node,
            )


def _has_ended(other: WorkerInfo) -> bool:
    """Return whether it ran on this host, as a process that does not exist any more."""
    if not worker_setup.is_on_this_host(other.node):
        return False
    if other.pid == os.getpid():
        return True  # the first process of a container has the same id each time
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
