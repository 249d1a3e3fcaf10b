"""A worker whose model is a clock, and whose rows tell the words of their sentences.

Usage as ``benchmarks.standin``: ``python -m benchmarks.soak.worker [OPTIONS] worker [...]``. Also
says in its log which chunks come to it that another worker had before.
"""

import logging
from collections.abc import Sequence
from typing import Any

from celery.signals import task_prerun

from benchmarks import standin
from benchmarks.soak import rows
from bertq_bert.checkpoint import Array

log = logging.getLogger("bertq.worker")


class HashingTokenizer(standin.Words):
    """A tokenizer that has a number for each word."""

    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Ids of each text, cut to ``length``."""
        return [rows.token_ids(text)[:length] for text in texts]


class HashingModel(standin.Clock):
    """A clock that shows the words."""

    def run(self, ids: Sequence[Sequence[int]]) -> Array:
        """Wait as the device would, and return the rows."""
        return rows.compute_rows(ids, super().run(ids).shape[1])


def log_redelivery(task_id: str = "", task: Any = None, **_: Any) -> None:
    """Log a chunk that was delivered before."""
    if (task.request.delivery_info or {}).get("redelivered"):
        log.info("chunk %s: delivered again", task_id)


if __name__ == "__main__":
    standin.Clock = HashingModel  # type: ignore[misc]  # what it builds
    standin.Words = HashingTokenizer  # type: ignore[misc]
    task_prerun.connect(log_redelivery)
    standin.main()
