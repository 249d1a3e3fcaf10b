"""Distributions of a worker's work: histograms of prometheus_client, served at ``/metrics``."""

from collections.abc import Iterator, Sequence

from prometheus_client import Histogram
from prometheus_client.core import Metric

#: Prefix of the name of each metric of a worker.
PREFIX = "bertq_worker"

# Upper bounds of the buckets. Seconds range from a small chunk on a GPU to a batch that hangs.
_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class Distributions:
    """The histograms of one worker; safe to use from many threads.

    Attributes:
        batch_rows: rows of a batch.
        batch_fill: share of its budget that a batch uses, 0 to 1.
        queue_wait_seconds: time from sending a chunk to computing it for the first time.
        compute_seconds: time to compute a batch.
        store_seconds: time to store the result of a chunk.
    """

    def __init__(self) -> None:
        self.batch_rows = _histogram("batch_rows", "Sentences of a batch.", _ROWS)
        self.batch_fill = _histogram(
            "batch_fill",
            "Share of a batch's limit that was used, in rows, tokens or attention scores.",
            _SHARES,
        )
        self.queue_wait_seconds = _histogram(
            "queue_wait_seconds",
            "From when a client sent a chunk to when it was first computed, by their clocks.",
            _SECONDS,
        )
        self.compute_seconds = _histogram("compute_seconds", "Time that a batch took.", _SECONDS)
        self.store_seconds = _histogram(
            "store_seconds", "Time that storing the result of a chunk took.", _SECONDS
        )

    def collect(self) -> Iterator[Metric]:
        """Return the histograms as metrics, without the times of their creation."""
        for histogram in vars(self).values():
            for metric in histogram.collect():
                metric.samples = [
                    sample for sample in metric.samples if not sample.name.endswith("_created")
                ]
                yield metric


def _histogram(name: str, text: str, bounds: Sequence[float]) -> Histogram:
    # Not in the registry that all programs of the process share.
    return Histogram(f"{PREFIX}_{name}", text, buckets=bounds, registry=None)
