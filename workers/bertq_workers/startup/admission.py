"""Whether a worker may join the others: Redis is in reach, its queues are not another model's."""

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

    A device's queue is not claimed; there the record of each job keeps the models apart.
    """
    return [name for name in advert.queues if queues.is_shared(name)]


def admit(redis: Redis, url: str, advert: WorkerInfo) -> None:
    """Claim the worker's queues, waiting for Redis for a bounded time.

    A claim of workers that are gone is waited for: it ends within ``keys.WORKER_TTL`` seconds.

    Raises:
        RedisUnavailable, RedisFull: Redis did not do it within ``PATIENCE`` seconds, or never will.
        ModelMismatch: living workers with another model hold a queue.
    """
    patience = _Patience(url)
    for queue in claimed(advert):
        _claim(redis, queue, advert, patience)
    if not claimed(advert):
        patience.ask(redis.ping)


def describe(redis: Redis, queue: str, holder: str) -> str:
    """Say, in words, whose queue it is."""
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
    """Return what tells one model from another, for messages."""
    return f"{advert.model} ({advert.meaning}, {advert.fingerprint[:12]})"


def _claim(redis: Redis, queue: str, advert: WorkerInfo, patience: "_Patience") -> None:
    shortest = float("inf")
    # Longer than any claim lives that nobody renews.
    until = time.monotonic() + keys.WORKER_TTL + 2
    while True:
        holder = patience.ask(lambda: claims.take(redis, queue, advert.fingerprint))
        if holder == advert.fingerprint:
            return
        left = patience.ask(lambda: claims.time_left(redis, queue))
        if left > shortest or time.monotonic() > until:
            # It was renewed while we looked: its workers are alive.
            whose = patience.ask(partial(describe, redis, queue, holder))
            raise ModelMismatch(
                f"queue {queue} is held by {whose}, and this worker has {meaning(advert)}: "
                "stop those first, or give this model a name of its own with --model-name"
            )
        if shortest == float("inf"):
            log.info("queue %s is claimed for another model: is it still there?", queue)
        shortest = left
        time.sleep(_PAUSE)


class _Patience:
    """Asks Redis, and asks again while it is away, until ``PATIENCE`` seconds are over."""

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
