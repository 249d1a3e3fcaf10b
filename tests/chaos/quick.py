"""A stand-in worker with a visibility timeout of one second instead of many.

It also sends a lost chunk of a durable job again after one second, and its info and claims expire
after three.
"""

from typing import Any

from benchmarks import standin
from bertq.config import celery_config
from bertq.protocol import time_to_live
from bertq_workers.timings import WorkerTimings, set_timings

#: In seconds; replaces ``bertq.config.celery_config.VISIBILITY_TIMEOUT_SECONDS``.
TIMEOUT = 1.0

#: In seconds; replaces ``bertq.protocol.time_to_live.WORKER_SECONDS``.
WORKER_TTL_SECONDS = 3

if __name__ == "__main__":
    replaced: Any = celery_config
    replaced.VISIBILITY_TIMEOUT_SECONDS = TIMEOUT
    replaced = time_to_live
    replaced.WORKER_SECONDS = WORKER_TTL_SECONDS
    from bertq.celery import app  # the configuration is made later

    timings = WorkerTimings(
        registration_seconds=WORKER_TTL_SECONDS / 3,
        monitor_seconds=TIMEOUT / 4,
        lost_after_seconds=TIMEOUT,
    )
    set_timings(app, timings)
    standin.main()
