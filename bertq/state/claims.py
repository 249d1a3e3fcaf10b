"""The claim on a shared queue, which ensures that all its workers have the same model.

A claim is a lease that a fingerprint holds. Every worker with that fingerprint renews it. Some
seconds after the last of them has ended, the claim expires, and another model can use the queue.
``switch`` gives claims to another model while workers of the old one are alive.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.redis import lease
from bertq.state import drain, worker_info
from bertq.state.worker_info import WorkerInfo


def take(redis: Redis, queue: str, fingerprint: str) -> str:
    """Take or renew the claim on a queue.

    Returns:
        The fingerprint that holds the queue: another one if the claim was refused.
    """
    return lease.take(redis, keys.claim(queue), fingerprint, time_to_live.WORKER_SECONDS)


def release(redis: Redis, queue: str, fingerprint: str) -> None:
    """Give up a worker's part in the claim.

    The claim ends slightly later than any other worker with the same fingerprint would renew it.
    """
    lease.release(redis, keys.claim(queue), fingerprint, time_to_live.WORKER_SECONDS // 3 + 1)


def holders(redis: Redis, queues: Sequence[str]) -> list[str | None]:
    """Return the fingerprint that holds each queue; None for one without a claim."""
    found: Any = redis.mget([keys.claim(queue) for queue in queues]) if queues else []
    return [None if holder is None else holder.decode(errors="replace") for holder in found]


def others(redis: Redis, queues: Iterable[str], fingerprint: str) -> list[WorkerInfo]:
    """Return the live workers of other models that take from one of some queues."""
    names = set(queues)
    return [
        worker
        for worker in worker_info.read(redis)
        if worker.fingerprint != fingerprint and not names.isdisjoint(worker.queues)
    ]


def switch(
    redis: Redis,
    queues: Iterable[str],
    fingerprint: str,
    old_workers: Iterable[WorkerInfo],
    max_seconds: float,
) -> None:
    """Give queues to another model, and ask the workers of the old one to drain, in one step.

    Args:
        redis: a connection.
        queues: the queues.
        fingerprint: fingerprint of the new model, whose workers stand by.
        old_workers: the workers to drain.
        max_seconds: the maximum seconds of their drain.
    """
    with redis.pipeline() as pipe:
        for queue in queues:
            pipe.set(keys.claim(queue), fingerprint, ex=time_to_live.WORKER_SECONDS)
        for worker in old_workers:
            drain.request(pipe, worker, max_seconds)
        pipe.execute()


def time_left(redis: Redis, queue: str) -> float:
    """Return the seconds until a claim ends; negative if there is no claim, or it never ends."""
    milliseconds: Any = redis.pttl(keys.claim(queue))
    return int(milliseconds) / 1000
