"""Counters over all requests of all clients, in Redis: the statistic of bert-as-service.

Totals start at the first request; averages, minima and maxima cover the latest ``LATEST_REQUESTS``
requests.
Times come from the Redis server, so that clocks of clients do not matter.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from bertq.protocol import keys, scripts, time_to_live
from bertq.redis.connection import run_script

#: Number of requests that averages cover.
LATEST_REQUESTS = 1000

#: Seconds that ``requests_per_second`` and ``sequences_per_second`` cover.
RATE_SECONDS = 60.0

#: Seconds after a request for which a client counts as active, as in bert-as-service 1.10.
CLIENT_ACTIVE_SECONDS = 180

#: Maximum number of clients that are stored individually.
_MAX_CLIENTS = 10_000

#: Maximum number of queues that are listed, those with the latest requests.
_MAX_QUEUES = 1000

_COUNT_REQUESTS = scripts.load("count_requests")


def count(pipe: Any, *, client: str, queue: str, sizes: Sequence[int]) -> None:
    """Count requests of a client, as part of a pipeline.

    Args:
        pipe: a pipeline, which may have other commands.
        client: id of the client.
        queue: queue of the requests.
        sizes: number of sentences of each request.
    """
    names = [keys.TOTALS, keys.CLIENTS, keys.QUEUES, keys.REQUESTS]
    limits = (LATEST_REQUESTS, _MAX_CLIENTS, _MAX_QUEUES, time_to_live.STATISTICS_SECONDS)
    run_script(pipe, _COUNT_REQUESTS, names, client, queue, *limits, *sizes)


def count_status_query(redis: Redis) -> None:
    """Count a query about the service itself, ``num_sys_request``.

    A full or read-only Redis still answers queries, but does not count them.
    """
    with redis.pipeline() as pipe, suppress(ResponseError):
        pipe.hincrby(keys.TOTALS, "looks", 1)
        pipe.expire(keys.TOTALS, time_to_live.STATISTICS_SECONDS)
        pipe.execute()


def read(redis: Redis) -> dict[str, Any]:
    """Return the counters under the names of bert-as-service 1.10.

    ``num_data_request``, ``num_sys_request``, ``num_total_request``, ``num_total_seq``,
    ``num_total_client`` and ``num_active_client`` are totals. ``request_per_client``,
    ``size_per_request`` (sentences), ``last_two_interval`` (seconds) and ``request_per_second``
    have the prefixes ``avg_``, ``min_`` and ``max_``, and also ``num_min_`` and ``num_max_``, which
    count how often the minimum and maximum occurred. As in bert-as-service, the prefixed names are
    missing if there was no request. Two names are new: ``requests_per_second`` and
    ``sequences_per_second`` over the last minute.
    """
    seconds: Any = redis.time()
    with redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.TOTALS)
        pipe.zcount(keys.CLIENTS, seconds[0] - CLIENT_ACTIVE_SECONDS, "+inf")
        pipe.xrevrange(keys.REQUESTS, count=LATEST_REQUESTS)
        totals, active, entries = pipe.execute()
    requests, queries = int(totals.get(b"requests", 0)), int(totals.get(b"looks", 0))
    times = [_seconds(entry) for entry, _ in entries]  # the latest first
    sizes = [int(fields[b"rows"]) for _, fields in entries]
    intervals = [later - earlier for later, earlier in pairwise(times)]
    rates = [1 / interval for interval in intervals if interval > 0]
    return {
        "num_data_request": requests,
        "num_total_seq": int(totals.get(b"sequences", 0)),
        "num_sys_request": queries,
        "num_total_request": requests + queries,
        "num_total_client": int(totals.get(b"clients", 0)),
        "num_active_client": active,
        **_summarize("request_per_client", Counter(f[b"client"] for _, f in entries).values()),
        **_summarize("size_per_request", sizes),
        **_summarize("last_two_interval", intervals),
        **_summarize("request_per_second", rates),
        **_rates(times, sizes, seconds[0] + seconds[1] / 1e6),
    }


def _rates(times: list[float], sizes: list[int], now: float) -> dict[str, float]:
    recent = [size for time, size in zip(times, sizes, strict=True) if time > now - RATE_SECONDS]
    seconds = RATE_SECONDS
    if len(recent) >= LATEST_REQUESTS:
        # There were more requests than are stored: use the time since the first stored one.
        seconds = max(now - times[-1], 1e-3)
    return {
        "requests_per_second": len(recent) / seconds,
        "sequences_per_second": sum(recent) / seconds,
    }


def _seconds(entry: bytes) -> float:
    # The id of a stream entry is its time in milliseconds and a number within that millisecond.
    return int(entry.split(b"-")[0]) / 1000


def _summarize(name: str, values: Any) -> dict[str, float]:
    values = list(values)
    if not values:
        return {}
    least, most = min(values), max(values)
    return {
        f"avg_{name}": sum(values) / len(values),
        f"min_{name}": least,
        f"max_{name}": most,
        f"num_min_{name}": values.count(least),
        f"num_max_{name}": values.count(most),
    }
