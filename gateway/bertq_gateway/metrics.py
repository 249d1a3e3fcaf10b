"""The gateway's metrics for Prometheus."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bertq_client.vector_cache import CacheInfo

#: Paths with a label; all other paths share one.
_ROUTES = frozenset(
    {
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/files",
        "/v1/files/{file_id}",
        "/v1/files/{file_id}/content",
        "/v1/batches",
        "/v1/batches/{batch_id}",
        "/v1/batches/{batch_id}/cancel",
        "/",
        "/embed",
        "/embed_all",
        "/embed_sparse",
        "/predict",
        "/rerank",
        "/similarity",
        "/tokenize",
        "/decode",
        "/info",
        "/v1/embed",
        "/v2/embed",
        "/v1/rerank",
        "/v2/rerank",
        "/encode",
        "/status/server",
        "/metrics",
    }
)

#: Paths with a name or an id in them, and their labels.
_PATTERNS = [
    (re.compile(r"^/v1/models/.+"), "/v1/models/{model}"),
    (re.compile(r"^/v1/files/[^/]+"), "/v1/files/{file_id}"),
    (re.compile(r"^/v1/batches/[^/]+"), "/v1/batches/{batch_id}"),
]

_BUCKET_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class GatewayMetrics:
    """Counters of one gateway, in a separate registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "bertq_http_requests",
            "Requests that were answered; status 499 if the client disconnected first",
            ("route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "bertq_http_request_seconds",
            "Time from the head of a request to the end of its answer",
            ("route",),
            buckets=_BUCKET_SECONDS,
            registry=self._registry,
        )
        self._in_progress = Gauge(
            "bertq_http_requests_under_way", "Requests under way", registry=self._registry
        )
        self._sentences = Counter(
            "bertq_http_sentences",
            "Sentences that were answered with vectors",
            registry=self._registry,
        )
        self._tokens = Counter(
            "bertq_http_tokens", "Wordpieces that were read for them", registry=self._registry
        )

        self._truncated = Counter(
            "bertq_http_truncated_inputs",
            "Texts that were cut, because they have more tokens than the model reads",
            registry=self._registry,
        )

        self._batches = Counter(
            "bertq_http_batches", "Batches that have ended", ("status",), registry=self._registry
        )
        self._batch_requests = Counter(
            "bertq_http_batch_requests",
            "Requests in batches that were answered",
            ("outcome",),
            registry=self._registry,
        )

    @contextmanager
    def request(self, scope: Any, status: Callable[[], int]) -> Iterator[None]:
        """Count a request while it is in progress, then its duration and status."""
        route = _route(scope["path"])
        started = time.perf_counter()
        self._in_progress.inc()
        try:
            yield
        finally:
            self._in_progress.dec()
            self._seconds.labels(route).observe(time.perf_counter() - started)
            self._requests.labels(route, status()).inc()

    def encoded(self, sentences: int, tokens: int, truncated: int) -> None:
        """Count the encoded sentences, read tokens and truncated sentences of a request."""
        self._sentences.inc(sentences)
        self._tokens.inc(tokens)
        self._truncated.inc(truncated)

    def batch_ended(self, status: str) -> None:
        """Count a batch that has ended."""
        self._batches.labels(status).inc()

    def batch_answered(self, completed: int, failed: int) -> None:
        """Count requests of batches that were answered."""
        self._batch_requests.labels("completed").inc(completed)
        self._batch_requests.labels("failed").inc(failed)

    def add_cache(self, read: Callable[[], CacheInfo]) -> None:
        """Add the metrics of the cache."""
        self._registry.register(_CacheMetrics(read))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _route(path: str) -> str:
    """Return the label of a path."""
    for pattern, route in _PATTERNS:
        path = pattern.sub(route, path)
    return path if path in _ROUTES else "other"


class _CacheMetrics(Collector):
    """The metrics of the cache, which counts by itself.

    Args:
        read: returns hits, misses and size.
    """

    def __init__(self, read: Callable[[], CacheInfo]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Return the current numbers."""
        info = self._read()
        yield CounterMetricFamily(
            "bertq_http_cache_hits", "Requests that were answered from the cache", info.hits
        )
        yield CounterMetricFamily(
            "bertq_http_cache_misses",
            "Requests with up to 16 texts that were not in the cache",
            info.misses,
        )
        yield GaugeMetricFamily("bertq_http_cache_rows", "Rows in the cache", info.rows)
