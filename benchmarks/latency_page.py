"""The results of `benchmarks.latency`, and their page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.measuring import percentiles_ms
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.timing import MedianRange

#: The encoder without a queue, to which all others are compared.
IN_PROCESS = "encoder, in process"


@dataclass
class LatencyResults:
    """Results: seconds, and answers per second.

    Attributes:
        waits: seconds of every answer, by way of sending.
        rates: answers per second of each turn, by way of sending.
        added_ms: p50 through the queue less p50 in process, ms, by block.
        batches: the encoder's batches of the whole corpus.
        during_bulk: single sentences while the large request ran.
        bulk_rate: sentences/s of the large request during that time.
    """

    waits: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    added_ms: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    during_bulk: list[float] = field(default_factory=list)
    bulk_rate: float = 0.0

    def add(self, name: str, waits: Sequence[float], rate: float) -> None:
        """Add the answers of a turn."""
        self.waits.setdefault(name, []).extend(waits)
        self.rates.setdefault(name, []).append(rate)


def build_document(results: LatencyResults, facts: Mapping[str, str], bulk: int) -> Document:
    """Return the page."""
    in_process = MedianRange.from_values(results.rates[IN_PROCESS]).median
    rows, data = [], {}
    for name in sorted(results.waits, key=lambda name: name != IN_PROCESS):
        rate = MedianRange.from_values(results.rates[name])
        quantiles = percentiles_ms(results.waits[name])
        rows.append([name, *_ms(quantiles), rate.text(), f"{rate.median / in_process:.2f}"])
        data[name] = {"ms": quantiles, "per_second": rate.document()}
    client_counts = Table(
        "One sentence a call", ["", "p50 ms", "p95 ms", "p99 ms", "sentences/s", "of in process"],
        rows, "Each client sends one sentence after another.",
    )  # fmt: skip
    added_ms = MedianRange.from_values(results.added_ms)
    batches = MedianRange.from_values(results.batches)
    quantiles = percentiles_ms(results.during_bulk)
    longest = 1000 * batches.high
    other = [
        ["p50 of one client less p50 in process, ms, by blocks of ten sentences", added_ms.text(1)],
        [
            "a batch of the encoder, ms",
            MedianRange.from_values([1000 * v for v in results.batches]).text(),
        ],
        [f"one sentence beside a request of {bulk:,}, p50 ms", f"{quantiles['p50']:.0f}"],
        ["the same, p95 ms", f"{quantiles['p95']:.0f}"],
        ["the same, p99 ms", f"{quantiles['p99']:.0f}"],
        ["its p95, in longest batches", f"{quantiles['p95'] / longest:.2f}"],
        ["single sentences timed during that request", f"{len(results.during_bulk):,}"],
        ["sentences/s of the large request", f"{results.bulk_rate:,.0f}"],
    ]
    numbers = {
        "clients": data,
        "extra_ms": added_ms.document(),
        "batch_seconds": batches.document(),
        "beside_bulk_ms": quantiles,
        "bulk_per_second": results.bulk_rate,
    }
    costs = Table("What the queue adds, and what a large request does", ["", "value"], other)
    return Document("How long a single sentence takes", facts, [client_counts, costs], numbers)


def _ms(quantiles: Mapping[str, float]) -> list[str]:
    return [f"{value:.1f}" for value in quantiles.values()]
