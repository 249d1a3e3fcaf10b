"""Chunks that another worker of the queue can compute, and this one cannot, return to the queue."""

import logging
import time
from collections.abc import Callable
from typing import Any

from celery.exceptions import Reject
from redis import Redis, RedisError

from bertq.state import worker_info
from bertq.state.worker_info import WorkerInfo
from bertq_workers.celery_compat.shutdown import is_stopping

log = logging.getLogger("bertq.worker")

#: Time for which a chunk stays in the worker before it returns: if the other worker is busy, this
#: one takes the chunk again at once.
_PAUSE_SECONDS = 1.0


def return_to_other(
    redis: Redis, request: Any, can_compute: Callable[[WorkerInfo], bool], reason: str
) -> None:
    """Return a chunk to its queue if another worker of the queue can compute it, now or soon.

    Args:
        redis: a connection.
        request: Celery's request of the chunk.
        can_compute: whether a worker can compute the chunk.
        reason: why this worker cannot, for the log.

    Raises:
        Reject: Celery returns the chunk.
    """
    queue = queue_of(request)
    try:
        workers = [
            worker
            for where in (worker_info.SERVING, worker_info.STANDBY)
            for worker in worker_info.read(redis, where)
        ]
    except RedisError:
        return
    nodes = [worker.node for worker in workers if queue in worker.queues and can_compute(worker)]
    if not nodes:
        return
    log.info(
        "chunk %s: returned for %s, %s", request.id, nodes[0], reason, extra={"chunk": request.id}
    )
    if not is_stopping():
        time.sleep(_PAUSE_SECONDS)
    raise Reject(reason, requeue=True)


def queue_of(request: Any) -> str:
    """Return the queue that a chunk was taken from, by Celery's request."""
    return str((request.delivery_info or {}).get("routing_key"))
