"""What `benchmarks.latency` has found, and the page of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.turns import percentiles
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.timing import MedianRange

#: The way without a queue, to which the others are compared.
ALONE = "encoder, in process"


@dataclass
class Findings:
    """What came out: seconds, and answers per second.

    Attributes:
        waits: of each way to send, all of them.
        rates: of each way, by turn.
        extra: p50 through the queue less p50 in process, ms, by block.
        batches: the encoder's batches of the whole corpus.
        beside: single sentences while the large request ran.
        bulk_rate: of the large request meanwhile.
    """

    waits: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    extra: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    bulk_rate: float = 0.0

    def add(self, name: str, waits: Sequence[float], seconds: float) -> None:
        """Count a turn."""
        self.waits.setdefault(name, []).extend(waits)
        self.rates.setdefault(name, []).append(len(waits) / seconds)


def build_document(found: Findings, facts: Mapping[str, str], bulk: int) -> Document:
    """Return the page."""
    inside = MedianRange.from_values(found.rates[ALONE]).median
    rows, data = [], {}
    for name in sorted(found.waits, key=lambda name: name != ALONE):
        rate = MedianRange.from_values(found.rates[name])
        cut = {key: 1000 * value for key, value in percentiles(found.waits[name]).items()}
        rows.append([name, *_ms(cut), rate.text(), f"{rate.median / inside:.2f}"])
        data[name] = {"ms": cut, "per_second": rate.document()}
    crowds = Table(
        "One sentence a call", ["", "p50 ms", "p95 ms", "p99 ms", "sentences/s", "of in process"],
        rows, "Each client sends one sentence after another.",
    )  # fmt: skip
    extra = MedianRange.from_values(found.extra)
    batches, beside = MedianRange.from_values(found.batches), percentiles(found.beside)
    cut = {key: 1000 * value for key, value in beside.items()}
    longest = 1000 * batches.high
    other = [
        ["p50 of one client less p50 in process, ms, by blocks of ten sentences", extra.text(1)],
        [
            "a batch of the encoder, ms",
            MedianRange.from_values([1000 * v for v in found.batches]).text(),
        ],
        [f"one sentence beside a request of {bulk:,}, p50 ms", f"{cut['p50']:.0f}"],
        ["the same, p95 ms", f"{cut['p95']:.0f}"],
        ["the same, p99 ms", f"{cut['p99']:.0f}"],
        ["its p95, in longest batches", f"{cut['p95'] / longest:.2f}"],
        ["sentences timed beside it", f"{len(found.beside):,}"],
        ["sentences/s of the large request meanwhile", f"{found.bulk_rate:,.0f}"],
    ]
    numbers = {
        "clients": data,
        "extra_ms": extra.document(),
        "batch_seconds": batches.document(),
        "beside_bulk_ms": cut,
        "bulk_per_second": found.bulk_rate,
    }
    costs = Table("What the queue adds, and what a large request does", ["", "value"], other)
    return Document("How long a single sentence takes", facts, [crowds, costs], numbers)


def _ms(cut: Mapping[str, float]) -> list[str]:
    return [f"{value:.1f}" for value in cut.values()]
