"""A clock worker whose chunks are given to another after a second without a sign of life."""

from typing import Any

from benchmarks import standin
from bertq import broker

#: Seconds, for ``bertq.broker.VISIBILITY_TIMEOUT``.
TIMEOUT = 1.0

if __name__ == "__main__":
    replaced: Any = broker
    replaced.VISIBILITY_TIMEOUT = TIMEOUT
    standin.main()
