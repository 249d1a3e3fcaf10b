"""A worker with a simulated model whose rows depend on the words of the sentences.

Usage as ``benchmarks.standin``: ``python -m benchmarks.soak.worker [OPTIONS] worker [...]``. It
also logs chunks that were delivered before.
"""

import logging
from collections.abc import Sequence
from typing import Any

from celery.signals import task_prerun

from benchmarks import standin
from benchmarks.soak import rows
from bertq_bert.checkpoint import Array

log = logging.getLogger("bertq.worker")


class HashingTokenizer(standin.WordTokenizer):
    """A tokenizer that has a number for each word."""

    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Return the ids of each text, at most ``length``."""
        return [rows.token_ids(text)[:length] for text in texts]


class HashingModel(standin.SimulatedModel):
    """A simulated model whose rows depend on the words."""

    def run(self, ids: Sequence[Sequence[int]]) -> Array:
        """Wait as long as the device, and return the rows."""
        return rows.compute_rows(ids, super().run(ids).shape[1])


def log_redelivery(task_id: str = "", task: Any = None, **_: Any) -> None:
    """Log a chunk that was delivered before."""
    if (task.request.delivery_info or {}).get("redelivered"):
        log.info("chunk %s: delivered again", task_id)


if __name__ == "__main__":
    standin.SimulatedModel = HashingModel  # type: ignore[misc]
    standin.WordTokenizer = HashingTokenizer  # type: ignore[misc]
    task_prerun.connect(log_redelivery)
    standin.main()
