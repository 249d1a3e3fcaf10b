"""A clock worker whose chunks are given to another after a second without a sign of life.

What is lost of a kept job it sends again after another.
"""

from typing import Any

from benchmarks import standin
from bertq import broker
from bertq_workers import tender

#: Seconds, for ``bertq.broker.VISIBILITY_TIMEOUT``.
TIMEOUT = 1.0

if __name__ == "__main__":
    replaced: Any = broker
    replaced.VISIBILITY_TIMEOUT = TIMEOUT
    replaced = tender
    replaced.LOST_AFTER = TIMEOUT
    replaced.EVERY = TIMEOUT / 4
    standin.main()
