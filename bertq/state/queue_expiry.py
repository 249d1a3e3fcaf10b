"""The time to live of queues: a queue without workers and clients expires, with its texts.

Every push of a chunk gives its queue at least ``time_to_live.QUEUE_SECONDS`` to live, and a chunk
of a durable job at least as long as the job. Workers extend the life of the queues that they serve,
and clients that of the queues on which their requests wait. An extension never shortens a life.
"""

from collections.abc import Iterable
from typing import Any

from redis import Redis

from bertq.protocol import keys, scripts, time_to_live

_EXTEND = scripts.load("extend_expiry")


def extend(pipe: Any, name: str, seconds: int = time_to_live.QUEUE_SECONDS) -> None:
    """Let a key live at least some seconds longer, as part of a pipeline."""
    pipe.eval(_EXTEND, 1, name, seconds)


def extend_served(redis: Redis, queues: Iterable[str]) -> None:
    """Extend the life of queues, and of the unacknowledged chunks, while a worker is alive.

    The list of an empty queue does not exist; the next push sets its time to live.
    """
    with redis.pipeline(transaction=False) as pipe:
        for name in (*queues, keys.UNACKED, keys.UNACKED_INDEX):
            extend(pipe, name)
        pipe.execute()
