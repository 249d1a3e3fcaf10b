"""Sends as fast as it can, and measures throughput and processor use."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from benchmarks.measuring import cpu_seconds
from bertq_client import BertClient

#: Calls that are under way at a time: the queue never runs dry.
_CALLS_IN_PROGRESS = 3
#: Calls that are timed at least.
_MIN_CALLS = 4


@dataclass(frozen=True)
class Counters:
    """Counters at one moment; processor times in seconds.

    Attributes:
        at_seconds: on the monotonic clock.
        workers: of all workers together.
        client: of this process.
        redis: of the Redis server.
        received, sent: bytes that the server took in and gave out.
    """

    at_seconds: float
    workers: float
    client: float
    redis: float
    received: int
    sent: int

    @classmethod
    def read(cls, redis: Redis, pids: Sequence[int]) -> "Counters":
        """Read all counters."""
        info: Any = redis.info()
        return cls(
            time.monotonic(),
            cpu_seconds(pids),
            time.process_time(),
            info["used_cpu_sys"] + info["used_cpu_user"],
            info["total_net_input_bytes"],
            info["total_net_output_bytes"],
        )


@dataclass(frozen=True)
class Throughput:
    """Rates of a period.

    Attributes:
        rows: how many per second.
        cores: processor seconds per second, of ``workers`` together, ``client`` and ``redis``.
        received, sent: bytes per row that the server took in and gave out.
    """

    rows: float
    cores: dict[str, float]
    received: float
    sent: float

    @classmethod
    def from_counters(cls, first: Counters, last: Counters, rows: int) -> "Throughput":
        """Return the rates of the time between two readings."""
        seconds = last.at_seconds - first.at_seconds
        names = ("workers", "client", "redis")
        return cls(
            rows / seconds,
            {name: (getattr(last, name) - getattr(first, name)) / seconds for name in names},
            (last.received - first.received) / rows,
            (last.sent - first.sent) / rows,
        )


def measure_throughput(
    client: BertClient, redis: Redis, pids: Sequence[int], texts: list[str], seconds: float
) -> Throughput:
    """Have ``texts`` encoded over and over for a time, with several calls in progress.

    The measurement begins when the first calls are answered and ends with an answer, while other
    calls are in progress: it includes neither the filling of the queue nor its draining.
    """
    futures = deque(client.encode_async(texts) for _ in range(_CALLS_IN_PROGRESS))
    for _ in range(_CALLS_IN_PROGRESS):
        futures.popleft().result()
        futures.append(client.encode_async(texts))
    first = Counters.read(redis, pids)
    calls = 0
    while calls < _MIN_CALLS or time.monotonic() - first.at_seconds < seconds:
        futures.popleft().result()
        futures.append(client.encode_async(texts))
        calls += 1
    last = Counters.read(redis, pids)
    for future in futures:
        future.cancel()
    return Throughput.from_counters(first, last, calls * len(texts))
