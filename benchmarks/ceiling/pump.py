"""Sends as much as goes, and watches who works for it."""

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from bertq_client import BertClient

#: Calls that are under way at a time: the queue never runs dry.
_AHEAD = 3
#: Calls that are timed at least.
_LEAST = 4


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment; processor times in seconds.

    Attributes:
        moment: on the monotonic clock.
        workers: of all workers together.
        client: of this process.
        redis: of the server.
        received, sent: bytes that the server took in and gave out.
        commands: that it did.
    """

    moment: float
    workers: float
    client: float
    redis: float
    received: int
    sent: int
    commands: int

    @classmethod
    def take(cls, redis: Redis, pids: Sequence[int]) -> "Snapshot":
        """Ask everybody."""
        info: Any = redis.info()
        return cls(
            time.monotonic(),
            sum(map(_cpu_seconds, pids)),
            time.process_time(),
            info["used_cpu_sys"] + info["used_cpu_user"],
            info["total_net_input_bytes"],
            info["total_net_output_bytes"],
            info["total_commands_processed"],
        )


@dataclass(frozen=True)
class Flow:
    """What went through in a while.

    Attributes:
        rows: how many per second.
        cores: processor seconds per second, of ``workers`` together, ``client`` and ``redis``.
        received, sent: bytes per row that the server took in and gave out.
        commands: of the server per row.
    """

    rows: float
    cores: dict[str, float]
    received: float
    sent: float
    commands: float

    @classmethod
    def between(cls, first: Snapshot, last: Snapshot, rows: int) -> "Flow":
        """Return what went through between two moments."""
        seconds = last.moment - first.moment
        names = ("workers", "client", "redis")
        return cls(
            rows / seconds,
            {name: (getattr(last, name) - getattr(first, name)) / seconds for name in names},
            (last.received - first.received) / rows,
            (last.sent - first.sent) / rows,
            (last.commands - first.commands) / rows,
        )


def pump(
    client: BertClient, redis: Redis, pids: Sequence[int], texts: list[str], seconds: float
) -> Flow:
    """Have ``texts`` encoded over and over for a while, several calls ahead.

    What is counted begins when the first calls are answered and ends with an answer, while others
    are still under way: neither the filling of the queue nor its draining is in it.
    """
    futures = deque(client.encode_async(texts) for _ in range(_AHEAD))
    for _ in range(_AHEAD):
        futures.popleft().result()
        futures.append(client.encode_async(texts))
    first = Snapshot.take(redis, pids)
    calls = 0
    while calls < _LEAST or time.monotonic() - first.moment < seconds:
        futures.popleft().result()
        futures.append(client.encode_async(texts))
        calls += 1
    last = Snapshot.take(redis, pids)
    for future in futures:
        future.cancel()
    return Flow.between(first, last, calls * len(texts))


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process since its start; Linux only."""
    # The name, in parentheses, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
