"""Admission of a worker: wait for Redis, and claim the worker's queues for its model."""

import logging
import time
from functools import partial

from redis import Redis, RedisError

from bertq.errors import ModelMismatch
from bertq.protocol import queues, time_to_live
from bertq.redis.connection import explain
from bertq.redis.outage import OutageLog
from bertq.redis.retry import RETRY_SECONDS, Retry
from bertq.state import claims, worker_info
from bertq.state.worker_info import WorkerInfo

log = logging.getLogger("bertq.worker")

#: Time between two attempts to claim a queue.
_INTERVAL_SECONDS = 0.25


def claimed_queues(info: WorkerInfo) -> list[str]:
    """Return the queues that a worker claims: the shared ones.

    Workers do not claim the queue of a device; its models are kept apart by the record of each job.
    """
    return [name for name in info.queues if queues.is_shared(name)]


def admit(
    redis: Redis,
    url: str,
    info: WorkerInfo,
    *,
    retry_seconds: float = RETRY_SECONDS,
    claim_seconds: float = time_to_live.WORKER_SECONDS + 2,
) -> None:
    """Claim the worker's queues, waiting for Redis for a bounded time.

    Args:
        redis: a connection.
        url: address of Redis, for errors.
        info: the worker.
        retry_seconds: how long to retry while Redis is unreachable or full.
        claim_seconds: how long to wait for a claim of dead workers to expire.

    Raises:
        RedisUnavailable, RedisFull: Redis did not respond in time, or will always refuse.
        ModelMismatch: living workers with another model have claimed a queue.
    """
    has_logged = False

    def log_retry(error: Exception) -> None:
        nonlocal has_logged
        if not has_logged:
            log.warning("%s; trying again for %g s", explain(error, url).error, retry_seconds)
        has_logged = True

    retry = Retry(
        url, full_seconds=retry_seconds, unreachable_seconds=retry_seconds, on_retry=log_retry
    )
    claimed = claimed_queues(info)
    for queue in claimed:
        _claim(redis, queue, info, retry, claim_seconds)
    _wait_for_others(redis, claimed, info, retry, claim_seconds)
    if not claimed:
        retry.call(redis.ping)


def stand_by(redis: Redis, info: WorkerInfo) -> None:
    """Wait, without a limit, until the model of a worker has its queues; show the worker meanwhile.

    It has them when no other model holds a claim, or when ``bertq models switch`` has given it the
    claims; and when no worker of another model takes from the queues any more.
    """
    queues = claimed_queues(info)
    outage = OutageLog(log, "this worker stands by until Redis answers again")
    log.info("standing by until queues %s are given to %s", ", ".join(queues), describe_model(info))
    renew_at = 0.0
    while True:
        try:
            if time.monotonic() >= renew_at:
                worker_info.publish(redis, info, worker_info.STANDBY)
                renew_at = time.monotonic() + time_to_live.WORKER_SECONDS / 3
            if _takes_claims(redis, queues, info.fingerprint):
                return
            outage.succeeded()
        except (RedisError, OSError) as error:
            outage.failed(error)
        time.sleep(_INTERVAL_SECONDS)


def _takes_claims(redis: Redis, queues: list[str], fingerprint: str) -> bool:
    """Take or renew all claims if no other model has one; return whether the queues are free."""
    # First look: a worker that stands by must not take one of two claims.
    if not {*claims.holders(redis, queues)} <= {None, fingerprint}:
        return False
    if any(claims.take(redis, queue, fingerprint) != fingerprint for queue in queues):
        return False
    return not claims.others(redis, queues, fingerprint)


def describe_holder(redis: Redis, queue: str, fingerprint: str) -> str:
    """Describe, for a message, which model and workers have claimed a queue."""
    holders = [
        worker
        for worker in worker_info.read(redis)
        if queue in worker.queues and worker.fingerprint == fingerprint
    ]
    if not holders:
        return f"another model ({fingerprint[:12]})"
    nodes = ", ".join(worker.node for worker in holders)
    return f"model {describe_model(holders[0])} of {nodes}"


def describe_model(info: WorkerInfo) -> str:
    """Return the description of a model that distinguishes it from others, for messages."""
    return f"{info.model} ({info.meaning}, {info.fingerprint[:12]})"


def _wait_for_others(
    redis: Redis, claimed: list[str], info: WorkerInfo, retry: Retry, claim_seconds: float
) -> None:
    """Wait for workers of an old model that have not noticed yet that it lost its queues."""
    deadline = time.monotonic() + claim_seconds
    while others := retry.call(lambda: claims.others(redis, claimed, info.fingerprint)):
        if time.monotonic() > deadline:
            nodes = ", ".join(worker.node for worker in others)
            raise ModelMismatch(
                f"{nodes} with model {describe_model(others[0])} takes from the same queues as "
                f"this worker, which has {describe_model(info)}: stop those first"
            )
        for queue in claimed:
            retry.call(partial(claims.take, redis, queue, info.fingerprint))
        time.sleep(_INTERVAL_SECONDS)


def _claim(redis: Redis, queue: str, info: WorkerInfo, retry: Retry, claim_seconds: float) -> None:
    shortest_ttl = float("inf")
    deadline = time.monotonic() + claim_seconds
    while True:
        holder = retry.call(lambda: claims.take(redis, queue, info.fingerprint))
        if holder == info.fingerprint:
            return
        ttl = retry.call(lambda: claims.time_left(redis, queue))
        if ttl > shortest_ttl or time.monotonic() > deadline:
            # The claim was renewed in the meantime, so its workers are alive.
            owner = retry.call(partial(describe_holder, redis, queue, holder))
            raise ModelMismatch(
                f"queue {queue} is claimed by {owner}, and this worker has {describe_model(info)}: "
                "stop those first, or serve this model under another name with --model-name"
            )
        if shortest_ttl == float("inf"):
            log.info("queue %s is claimed for another model; waiting until it is released", queue)
        shortest_ttl = ttl
        time.sleep(_INTERVAL_SECONDS)
