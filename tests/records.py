"""Records of jobs that tests write without a client."""

from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.state import counters, jobs


def write(
    redis: Redis, job_id: str, *, client: str = "me", queue: str = "bertq", rows: int = 1,
    chunks: int = 1,
) -> None:  # fmt: skip
    """Write the record of a job of one request, without sending its chunks."""
    with redis.pipeline() as pipe:
        pipe.hset(keys.job(job_id), mapping={"state": jobs.ACTIVE, "chunks": chunks})
        pipe.expire(keys.job(job_id), time_to_live.JOB_SECONDS)
        counters.count(pipe, client=client, queue=queue, sizes=[rows])
        pipe.execute()
