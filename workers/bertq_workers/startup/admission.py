"""Admission of a worker: wait for Redis, and claim the worker's queues for its model."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from redis import Redis, RedisError

from bertq.errors import ModelMismatch
from bertq.protocol import keys, queues
from bertq.redis.connection import RETRY_SECONDS, explain
from bertq.state import claims, worker_info
from bertq.state.worker_info import WorkerInfo

log = logging.getLogger("bertq.worker")

_PAUSE = 0.25
_T = TypeVar("_T")


def claimed(info: WorkerInfo) -> list[str]:
    """Return the queues that a worker claims: the shared ones.

    Workers do not claim the queue of a device; its models are kept apart by the record of each job.
    """
    return [name for name in info.queues if queues.is_shared(name)]


def admit(redis: Redis, url: str, info: WorkerInfo) -> None:
    """Claim the worker's queues, waiting for Redis for a bounded time.

    It waits for a claim of dead workers to expire, ``keys.WORKER_TTL_SECONDS`` at most.

    Raises:
        RedisUnavailable, RedisFull: Redis did not respond within ``RETRY_SECONDS``, or refuses for
            good.
        ModelMismatch: living workers with another model have claimed a queue.
    """
    retry = _Patience(url)
    for queue in claimed(info):
        _claim(redis, queue, info, retry)
    if not claimed(info):
        retry.ask(redis.ping)


def describe(redis: Redis, queue: str, holder: str) -> str:
    """Describe, for a message, which model and workers have claimed a queue."""
    others = [
        other
        for other in worker_info.read(redis)
        if queue in other.queues and other.fingerprint == holder
    ]
    if not others:
        return f"another model ({holder[:12]})"
    other = others[0]
    return f"model {meaning(other)} of {', '.join(worker.node for worker in others)}"


def meaning(info: WorkerInfo) -> str:
    """Return the description of a model that distinguishes it from others, for messages."""
    return f"{info.model} ({info.meaning}, {info.fingerprint[:12]})"


def _claim(redis: Redis, queue: str, info: WorkerInfo, retry: "_Patience") -> None:
    shortest = float("inf")
    # Longer than the lifetime of a claim that is not renewed.
    until = time.monotonic() + keys.WORKER_TTL_SECONDS + 2
    while True:
        holder = retry.ask(lambda: claims.take(redis, queue, info.fingerprint))
        if holder == info.fingerprint:
            return
        left = retry.ask(lambda: claims.time_left(redis, queue))
        if left > shortest or time.monotonic() > until:
            # The claim was renewed in the meantime, so its workers are alive.
            whose = retry.ask(partial(describe, redis, queue, holder))
            raise ModelMismatch(
                f"queue {queue} is held by {whose}, and this worker has {meaning(info)}: "
                "stop those first, or serve this model under another name with --model-name"
            )
        if shortest == float("inf"):
            log.info("queue %s is claimed for another model: is it still there?", queue)
        shortest = left
        time.sleep(_PAUSE)


class _Patience:
    """Runs Redis commands, retrying until ``RETRY_SECONDS`` seconds have passed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._give_up = time.monotonic() + RETRY_SECONDS
        self._said = False

    def ask(self, question: Callable[[], _T]) -> _T:
        while True:
            try:
                return question()
            except RedisError as error:
                trouble = explain(error, self._url)
                if trouble.final or time.monotonic() > self._give_up:
                    raise trouble.error from None
                if not self._said:
                    log.warning("%s; trying again for %d s", trouble.error, RETRY_SECONDS)
                self._said = True
            time.sleep(_PAUSE)
