"""A clock worker whose chunks are given to another after a second without a sign of life.

What is lost of a kept job it sends again after another.
"""

from typing import Any

from benchmarks import standin
from bertq.config import celery_config
from bertq_workers.background import durable_job_monitor

#: Seconds, for ``bertq.config.celery_config.VISIBILITY_TIMEOUT``.
TIMEOUT = 1.0

if __name__ == "__main__":
    replaced: Any = celery_config
    replaced.VISIBILITY_TIMEOUT = TIMEOUT
    replaced = durable_job_monitor
    replaced.LOST_AFTER = TIMEOUT
    replaced.EVERY = TIMEOUT / 4
    standin.main()
