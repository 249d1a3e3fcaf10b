"""The status of the whole service, from Redis alone: no worker is queried."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from redis import Redis

from bertq.protocol import keys, queues
from bertq.redis import server
from bertq.state import backlog, counters, worker_info
from bertq.state.worker_info import WorkerInfo


@dataclass(frozen=True)
class QueueStatus:
    """The status of one queue.

    Attributes:
        name: name of the queue.
        chunks: number of waiting chunks.
        workers: node names of the workers that take from the queue.
        fingerprint: fingerprint of the model that has claimed the queue; None for a device's queue,
            or an idle one.
        waiting_seconds: seconds that the workers need for the waiting chunks; None if no worker of
            the queue has computed anything yet.
    """

    name: str
    chunks: int
    workers: list[str]
    fingerprint: str | None
    waiting_seconds: float | None


@dataclass(frozen=True)
class Status:
    """The status of the service.

    Attributes:
        workers: live workers, by node name.
        draining: workers that finish the chunks that they have, and take no others.
        standby: workers that have loaded a model and wait for its queues.
        queues: the shared queues, those of live workers, and those that clients have sent to.
        unacked: number of unacknowledged chunks.
        statistic: the counters of ``bertq.state.counters``.
        time: Unix time, by the clock of Redis.
        warnings: warnings about the settings of Redis.
    """

    workers: list[WorkerInfo]
    queues: list[QueueStatus]
    unacked: int
    statistic: dict[str, Any]
    time: float
    warnings: list[str]
    draining: list[WorkerInfo]
    standby: list[WorkerInfo]

    def document(self) -> dict[str, Any]:
        """Return the status as plain values, some under the names of bert-as-service."""
        return {
            "num_worker": len(self.workers),
            "device_map": [worker.device for worker in self.workers],
            "server_current_time": str(datetime.fromtimestamp(self.time)),
            "statistic": self.statistic,
            "workers": {worker.node: asdict(worker) for worker in self.workers},
            "draining": {worker.node: asdict(worker) for worker in self.draining},
            "standby": {worker.node: asdict(worker) for worker in self.standby},
            "queues": {queue.name: asdict(queue) for queue in self.queues},
            "unacked": self.unacked,
            "warnings": self.warnings,
        }


def read(redis: Redis) -> Status:
    """Return the status of the whole service, with a few commands.

    Raises:
        redis.exceptions.ClusterError: Redis runs in cluster mode.
        redis.RedisError: Redis does not answer.
    """
    server.refuse_cluster(redis)
    workers = worker_info.read(redis)
    draining = worker_info.read(redis, worker_info.DRAINING)
    standby = worker_info.read(redis, worker_info.STANDBY)
    used: Any = redis.zrange(keys.QUEUES, 0, -1)
    names = {queues.SHARED, queues.SMALL, *(name.decode() for name in used)}
    names.update(name for worker in workers for name in worker.queues)
    ordered = sorted(names)
    with redis.pipeline(transaction=False) as pipe:
        for name in ordered:
            pipe.llen(name)
            pipe.get(keys.claim(name))
        pipe.hlen(keys.UNACKED)
        pipe.time()
        *answers, unacked, (seconds, microseconds) = pipe.execute()
    return Status(
        workers=workers,
        queues=[
            QueueStatus(
                name=name,
                chunks=answers[2 * number],
                workers=[worker.node for worker in workers if name in worker.queues],
                fingerprint=claim.decode() if (claim := answers[2 * number + 1]) else None,
                waiting_seconds=backlog.waiting_seconds(name, answers[2 * number], workers),
            )
            for number, name in enumerate(ordered)
        ],
        unacked=unacked,
        statistic=counters.read(redis),
        time=seconds + microseconds / 1e6,
        warnings=[warning] if (warning := server.eviction_warning(redis)) else [],
        draining=draining,
        standby=standby,
    )
