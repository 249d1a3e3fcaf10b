"""The health of workers, from Redis, for orchestrators that restart unhealthy workers.

A worker renews its worker info on a separate thread, even when its graph hangs. So the info also
says how long the oldest batch has been computed, and that decides.
"""

import socket
from dataclasses import dataclass

from redis import Redis

from bertq.protocol import queues
from bertq.state import worker_info
from bertq.state.worker_info import WorkerInfo

#: Seconds after which an unfinished batch counts as hanging.
MAX_BATCH_SECONDS = 60.0


@dataclass(frozen=True)
class Health:
    """The result of a check.

    Attributes:
        healthy: whether the workers are healthy.
        reason: the reason for ``healthy``, in one line.
        workers: the workers in question that are alive.
    """

    healthy: bool
    reason: str
    workers: list[WorkerInfo]


def of_model(
    redis: Redis, model: str | None, max_batch_seconds: float = MAX_BATCH_SECONDS
) -> Health:
    """Check that at least one worker of a model is alive and does not hang.

    Args:
        redis: a connection.
        model: name of the model; None for the model without a name.
        max_batch_seconds: a worker hangs if it has computed one batch for longer.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    found = [worker for worker in worker_info.read(redis) if worker.model_name == model]
    owner = queues.of_model(model)  # its text is "model NAME"
    if not found:
        return Health(False, f"no worker of {owner} is alive", found)
    hangs = _describe_hangs(found, max_batch_seconds)
    healthy = len(found) - len(hangs)
    summary = f"{healthy} of {len(found)} workers of {owner} healthy"
    return Health(healthy > 0, "; ".join([summary, *hangs]), found)


def of_node(redis: Redis, node: str, max_batch_seconds: float = MAX_BATCH_SECONDS) -> Health:
    """Check that the worker with a name such as ``gpu0@host`` is alive and does not hang.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    found = [worker for worker in _read_running(redis) if worker.node == node]
    return _check_all(found, f"worker {node}", max_batch_seconds)


def of_queue(redis: Redis, queue: str, max_batch_seconds: float = MAX_BATCH_SECONDS) -> Health:
    """Check that the workers of this host that take from a queue are alive and do not hang.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    host = socket.gethostname()
    found = [
        worker
        for worker in _read_running(redis)
        if queue in worker.queues and worker.node.partition("@")[2] == host
    ]
    return _check_all(found, f"worker of {host} on queue {queue}", max_batch_seconds)


def _read_running(redis: Redis) -> list[WorkerInfo]:
    """Return all workers that an orchestrator should leave running."""
    lists = (worker_info.SERVING, worker_info.DRAINING, worker_info.STANDBY)
    return [worker for where in lists for worker in worker_info.read(redis, where)]


def _check_all(found: list[WorkerInfo], expected: str, max_batch_seconds: float) -> Health:
    if not found:
        return Health(False, f"no {expected} is alive: it has ended, or is not ready yet", found)
    if hangs := _describe_hangs(found, max_batch_seconds):
        return Health(False, "; ".join(hangs), found)
    names = ", ".join(worker.node for worker in found)
    return Health(True, f"{names}: alive, and no batch takes long", found)


def _describe_hangs(workers: list[WorkerInfo], max_batch_seconds: float) -> list[str]:
    """Return a line for each worker that hangs."""
    return [
        f"{worker.node} hangs: it has computed one batch for {worker.work.batch_seconds:.0f} s, "
        f"more than {max_batch_seconds:g} s"
        for worker in workers
        if worker.work.batch_seconds > max_batch_seconds
    ]
