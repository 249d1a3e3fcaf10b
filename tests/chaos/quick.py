"""A stand-in worker with a visibility timeout of one second instead of many.

It also sends a lost chunk of a durable job again after one second.
"""

from typing import Any

from benchmarks import standin
from bertq.config import celery_config
from bertq_workers.timings import WorkerTimings, set_timings

#: In seconds; replaces ``bertq.config.celery_config.VISIBILITY_TIMEOUT_SECONDS``.
TIMEOUT = 1.0

if __name__ == "__main__":
    replaced: Any = celery_config
    replaced.VISIBILITY_TIMEOUT_SECONDS = TIMEOUT
    from bertq.celery import app  # the configuration is made later

    set_timings(app, WorkerTimings(monitor_seconds=TIMEOUT / 4, lost_after_seconds=TIMEOUT))
    standin.main()
