"""Admission of a worker: wait for Redis, and claim the worker's queues for its model."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from redis import Redis, RedisError

from bertq.errors import ModelMismatch
from bertq.protocol import keys, queues
from bertq.redis.connection import PATIENCE, explain
from bertq.state import claims, worker_info
from bertq.state.worker_info import WorkerInfo

log = logging.getLogger("bertq.worker")

_PAUSE = 0.25
_T = TypeVar("_T")


def claimed(advert: WorkerInfo) -> list[str]:
    """Return the queues that a worker claims: the shared ones.

    Workers do not claim the queue of a device; its models are kept apart by the record of each job.
    """
    return [name for name in advert.queues if queues.is_shared(name)]


def admit(redis: Redis, url: str, advert: WorkerInfo) -> None:
    """Claim the worker's queues, waiting for Redis for a bounded time.

    A claim of dead workers expires within ``keys.WORKER_TTL`` seconds; this function waits for it.

    Raises:
        RedisUnavailable, RedisFull: Redis did not respond within ``PATIENCE`` seconds, or refuses
            for good.
        ModelMismatch: living workers with another model have claimed a queue.
    """
    patience = _Patience(url)
    for queue in claimed(advert):
        _claim(redis, queue, advert, patience)
    if not claimed(advert):
        patience.ask(redis.ping)


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


def meaning(advert: WorkerInfo) -> str:
    """Return the description of a model that distinguishes it from others, for messages."""
    return f"{advert.model} ({advert.meaning}, {advert.fingerprint[:12]})"


def _claim(redis: Redis, queue: str, advert: WorkerInfo, patience: "_Patience") -> None:
    shortest = float("inf")
    # Longer than the lifetime of a claim that is not renewed.
    until = time.monotonic() + keys.WORKER_TTL + 2
    while True:
        holder = patience.ask(lambda: claims.take(redis, queue, advert.fingerprint))
        if holder == advert.fingerprint:
            return
        left = patience.ask(lambda: claims.time_left(redis, queue))
        if left > shortest or time.monotonic() > until:
            # The claim was renewed in the meantime, so its workers are alive.
            whose = patience.ask(partial(describe, redis, queue, holder))
            raise ModelMismatch(
                f"queue {queue} is held by {whose}, and this worker has {meaning(advert)}: "
                "stop those first, or serve this model under another name with --model-name"
            )
        if shortest == float("inf"):
            log.info("queue %s is claimed for another model: is it still there?", queue)
        shortest = left
        time.sleep(_PAUSE)


class _Patience:
    """Runs Redis commands, retrying until ``PATIENCE`` seconds have passed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._give_up = time.monotonic() + PATIENCE
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
                    log.warning("%s; trying again for %d s", trouble.error, PATIENCE)
                self._said = True
            time.sleep(_PAUSE)
