"""A stand-in worker with a visibility timeout of one second instead of many.

It also sends a lost chunk of a durable job again after one second.
"""

from typing import Any

from benchmarks import standin
from bertq.config import celery_config
from bertq_workers.background import durable_job_monitor

#: In seconds; replaces ``bertq.config.celery_config.VISIBILITY_TIMEOUT_SECONDS``.
TIMEOUT = 1.0

if __name__ == "__main__":
    replaced: Any = celery_config
    replaced.VISIBILITY_TIMEOUT_SECONDS = TIMEOUT
    replaced = durable_job_monitor
    replaced.LOST_AFTER = TIMEOUT
    replaced.EVERY = TIMEOUT / 4
    standin.main()
