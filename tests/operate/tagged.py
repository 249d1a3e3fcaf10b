"""A stand-in worker whose rows tell its model: ``python -m tests.operate.tagged TAG [OPTIONS]``.

The tag, a whole number, is the second number of each row and the end of the fingerprint. Its info
and claims are renewed each second, as in ``tests.chaos.quick``.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks import standin
from bertq.protocol import time_to_live
from bertq_bert.checkpoint import Array
from bertq_workers.timings import WorkerTimings, set_timings

#: In seconds; replaces ``bertq.protocol.time_to_live.WORKER_SECONDS``.
WORKER_TTL_SECONDS = 3


def fingerprint(tag: int) -> str:
    """Return the fingerprint of a model."""
    return f"tagged-{tag}"


class TaggedModel(standin.SimulatedModel):
    """A simulated model whose rows have its tag."""

    def run(self, ids: Sequence[Sequence[int]]) -> Array:
        """Wait as long as the device, and return the rows."""
        rows = super().run(ids)
        rows[:, 1] = int(self.fingerprint.rpartition("-")[2])
        return rows


if __name__ == "__main__":
    tag = int(sys.argv.pop(1))
    read = standin.read_simulated

    def read_tagged(*arguments: Any) -> standin.SimulatedSource:
        model = read(*arguments).model
        return standin.SimulatedSource(replace(model, fingerprint=fingerprint(tag)))

    replaced: Any = standin
    replaced.read_simulated = read_tagged
    replaced.SimulatedModel = TaggedModel
    replaced = time_to_live
    replaced.WORKER_SECONDS = WORKER_TTL_SECONDS
    from bertq.celery import app

    set_timings(app, WorkerTimings(registration_seconds=WORKER_TTL_SECONDS / 3))
    standin.main()
