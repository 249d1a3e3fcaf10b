"""The metrics of a worker at ``/metrics``, for Prometheus.

This module counts nothing. At each scrape it reads the worker's ``Meter`` and queries current
values. The endpoint has no login and no TLS.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import RedisError

from bertq.redis.connection import connect
from bertq.state import backlog, worker_info
from bertq.state.worker_info import WorkerInfo, WorkerStats
from bertq_workers.observability.distributions import PREFIX
from bertq_workers.observability.meter import Meter
from bertq_workers.startup import devices, process

if TYPE_CHECKING:
    from bertq_bert.network.compiled import CompileStats

log = logging.getLogger("bertq.worker")

#: Time to connect to Redis, and for its answer about the queues.
_REDIS_TIMEOUT_SECONDS = 1.0

#: Totals of ``WorkerStats``: the name of the field, with the unit, and the help.
_TOTALS = {
    "sentences": "Sentences that were answered with rows.",
    "tokens": "Wordpieces that were read for them, [CLS] and [SEP] included.",
    "truncated_sentences": "Sentences that were truncated before they were answered with rows.",
    "chunks": "Chunks that were answered with rows.",
    "failures": "Chunks that were answered with an error.",
    "rejected_chunks": "Chunks that were answered with an error because of their caller's mistake.",
    "redelivered_chunks": "Chunks that were begun again, after a worker died or gave them back.",
    "batches": "Times that the model ran.",
}


class WorkerMetrics(Collector):
    """The metrics of one worker.

    Attributes:
        info: the worker info, once the model is loaded.
        chunks_in_worker: returns how many chunks the worker has taken and not answered.
        compile_stats: returns what XLA has compiled; None if it compiles nothing.
    """

    def __init__(self, meter: Meter, url: str) -> None:
        """``url`` is the address of the Redis with the worker's queues."""
        self.info: WorkerInfo | None = None
        self.chunks_in_worker: Callable[[], int] = lambda: 0
        self.compile_stats: Callable[[], CompileStats | None] = lambda: None
        self._meter = meter
        self._redis: Any = connect(url, _REDIS_TIMEOUT_SECONDS)

    def serve(self, host: str, port: int) -> None:
        """Serve the metrics, on separate threads, until the process ends.

        Raises:
            OSError: the port is taken, or the address cannot be used.
        """
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(self)
        start_http_server(port, host, registry)
        log.info("metrics at port %d of %s", port, host)

    def describe(self) -> list[Metric]:
        """Return nothing, because registering must not query Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return all current metrics."""
        work = self._meter.read()
        yield from _totals(work)
        yield from self._meter.distributions.collect()
        yield _gauge("lanes", "Batches that may run at the same time.", self._meter.lanes)
        yield _gauge(
            "held_chunks", "Chunks that the worker has taken from queues.", self.chunks_in_worker()
        )
        yield _gauge(
            "batch_seconds_running",
            "For how long the oldest batch has been computed that is not done; 0 without one.",
            work.batch_seconds,
        )
        if (compiled := self.compile_stats()) is not None:
            yield _gauge("compiled_shapes", "Shapes of batches that are compiled.", compiled.shapes)
            yield CounterMetricFamily(
                f"{PREFIX}_compile_seconds", "Time to compile them.", value=compiled.seconds
            )
        if self.info is not None:
            yield _info(self.info)
            yield from _memory()
            yield from self._queues(self.info.queues)

    def _queues(self, names: list[str]) -> Iterator[Metric]:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.llen(name)
                lengths = pipe.execute()
            workers = worker_info.read(self._redis)
        except RedisError:
            return  # no metric: 0 would mean that the queue is empty
        metric = GaugeMetricFamily(
            f"{PREFIX}_queue_length",
            "Chunks waiting on a queue of this worker, for any worker.",
            labels=["queue"],
        )
        waiting = GaugeMetricFamily(
            f"{PREFIX}_waiting_seconds",
            "Seconds that all workers of the queue need for its waiting chunks.",
            labels=["queue"],
        )
        for name, length in zip(names, lengths, strict=True):
            metric.add_metric([name], length)
            seconds = backlog.waiting_seconds(name, length, workers)
            if seconds is not None:
                waiting.add_metric([name], seconds)
        yield metric
        yield waiting


def _totals(work: WorkerStats) -> Iterator[Metric]:
    for name, text in _TOTALS.items():
        value = getattr(work, name.removesuffix("_chunks").removesuffix("_sentences"))
        yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _memory() -> Iterator[Metric]:
    """Return the memory of the device: of the GPU, or of the process in main memory."""
    used, peak = devices.memory() or (process.memory(), process.peak())
    peak = max(used, peak)  # the system updates the two separately, and in steps
    yield _gauge(
        "device_memory_bytes",
        "GPU memory that TensorFlow uses; on a CPU, the memory of the process.",
        used,
    )
    yield _gauge("device_memory_peak_bytes", "The most of it that there was at once.", peak)


def _info(info: WorkerInfo) -> Metric:
    shown = {
        "node": info.node,
        "model": info.model,
        "model_name": info.model_name or "",
        "fingerprint": info.fingerprint,
        "device": info.device,
        "device_name": info.device_name,
        "dtype": info.dtype,
        "pooling_strategy": info.pooling_strategy,
        "max_seq_len": str(info.max_seq_len),
        **{f"version_{name}": number for name, number in info.versions.items()},
    }
    return InfoMetricFamily(PREFIX, "Description of the worker in labels; always 1.", value=shown)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
