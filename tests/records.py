"""Records of jobs that tests write without a client."""

import time

from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.state import counters, jobs
from bertq.state.counters import CountedRequest


def write(
    redis: Redis, job_id: str, *, client: str = "me", queue: str = "bertq", rows: int = 1,
    chunks: int = 1,
) -> None:  # fmt: skip
    """Write the record of a job of one request, without sending its chunks."""
    redis.hset(keys.job(job_id), mapping={"state": jobs.ACTIVE, "chunks": chunks})
    redis.expire(keys.job(job_id), time_to_live.JOB_SECONDS)
    count(redis, client, queue, rows)


def count(redis: Redis, client: str, queue: str, rows: int) -> None:
    """Count a request, as a client does."""
    counters.count(redis, client, [CountedRequest(queue, rows, time.monotonic())])
