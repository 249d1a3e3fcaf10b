"""Counters over all requests of all clients, in Redis: the statistic of bert-as-service.

A client adds up its requests and sends them about once a second, so that a request of one sentence
does not pay for them. Totals start at the first request; averages, minima and maxima cover the
latest ``LATEST_REQUESTS`` requests.

Times come from the Redis server, so that clocks of clients do not matter.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

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

#: Requests that share an entry of the stream of the latest requests.
_REQUESTS_PER_ENTRY = 100

_COUNT_REQUESTS = scripts.load("count_requests")


class CountedRequest(NamedTuple):
    """A request to count.

    Attributes:
        queue: its queue.
        rows: its number of sentences.
        sent_at: monotonic time at which it was sent.
    """

    queue: str
    rows: int
    sent_at: float


class RequestCounter:
    """Adds up the requests of a client, until they are sent to Redis; safe to use by threads.

    Args:
        client: id of the client.
    """

    def __init__(self, client: str) -> None:
        self._client = client
        # Without a lock: a signal handler may run between any two steps, and count a request.
        self._requests: deque[CountedRequest] = deque()

    def add(self, queue: str, rows: int) -> None:
        """Add a request that was sent now."""
        self._requests.append(CountedRequest(queue, rows, time.monotonic()))

    def send(self, redis: Redis) -> None:
        """Send the requests to Redis.

        Raises:
            redis.RedisError: Redis cannot be reached, or refuses; the next call sends them.
        """
        requests = []
        with suppress(IndexError):
            while True:
                requests.append(self._requests.popleft())
        if not requests:
            return
        try:
            count(redis, self._client, requests)
        except BaseException:
            self._requests.extendleft(reversed(requests))
            raise


def count(redis: Any, client: str, requests: Sequence[CountedRequest]) -> None:
    """Count requests of a client, at least one.

    Args:
        redis: a connection, or a pipeline, which may have other commands.
        client: id of the client.
        requests: the requests, in the order in which they were sent.
    """
    queues = sorted({request.queue for request in requests})
    names = [keys.TOTALS, keys.CLIENTS, keys.QUEUES, keys.REQUESTS]
    limits = (LATEST_REQUESTS, _MAX_CLIENTS, _MAX_QUEUES, time_to_live.STATISTICS_SECONDS)
    rows = sum(request.rows for request in requests)
    entries = _entries(requests[-LATEST_REQUESTS:])
    run_script(
        redis, _COUNT_REQUESTS, names,
        client, *limits, len(requests), rows, len(queues), *queues, *entries,
    )  # fmt: skip


def _entries(requests: Sequence[CountedRequest]) -> list[str]:
    """Return the fields of entries: numbers of sentences, and ages in milliseconds."""
    now = time.monotonic()
    fields = []
    for first in range(0, len(requests), _REQUESTS_PER_ENTRY):
        part = requests[first : first + _REQUESTS_PER_ENTRY]
        fields.append(" ".join(str(request.rows) for request in part))
        fields.append(" ".join(str(int(1000 * (now - request.sent_at))) for request in part))
    return fields


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
    latest = _latest_requests(entries)
    times = [request.time for request in latest]
    sizes = [request.rows for request in latest]
    intervals = [later - earlier for later, earlier in pairwise(times)]
    rates = [1 / interval for interval in intervals if interval > 0]
    return {
        "num_data_request": requests,
        "num_total_seq": int(totals.get(b"sequences", 0)),
        "num_sys_request": queries,
        "num_total_request": requests + queries,
        "num_total_client": int(totals.get(b"clients", 0)),
        "num_active_client": active,
        **_summarize("request_per_client", Counter(request.client for request in latest).values()),
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


class _LatestRequest(NamedTuple):
    """A request in the stream; ``time`` is in seconds, by the clock of the server."""

    time: float
    rows: int
    client: bytes


def _latest_requests(entries: Any) -> list[_LatestRequest]:
    """Return the latest requests of the stream, the very latest first."""
    found = []
    for entry_id, fields in entries:
        # The id of an entry is its time in milliseconds and a number within that millisecond.
        milliseconds = int(entry_id.split(b"-")[0])
        sizes, ages = fields[b"rows"].split(), fields.get(b"ages", b"0").split()
        for rows, age in zip(sizes, ages, strict=False):
            time_seconds = (milliseconds - int(age)) / 1000
            found.append(_LatestRequest(time_seconds, int(rows), fields[b"client"]))
    found.sort(key=lambda request: request.time, reverse=True)
    return found[:LATEST_REQUESTS]


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
