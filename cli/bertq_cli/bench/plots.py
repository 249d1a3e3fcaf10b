"""Plots of the tables; needs matplotlib, from the extra ``bench``."""

from collections.abc import Sequence
from pathlib import Path

from bertq_cli.bench.campaign import Measurement
from bertq_cli.bench.plan import format_workers


def draw(table: str, measurements: Sequence[Measurement], path: Path) -> None:
    """Draw one table: a line for each number of workers, with the range of its measurements."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6.4, 4.0), layout="constrained")
    axes = canvas.subplots()
    lines = {
        count: [
            measurement for measurement in measurements if measurement.point.setup.workers == count
        ]
        for count in sorted({measurement.point.setup.workers for measurement in measurements})
    }
    for count, line in lines.items():
        rates = [
            measurement.each if table == "num_client" else measurement.total for measurement in line
        ]
        below = [rate.median - rate.low for rate in rates]
        above = [rate.high - rate.median for rate in rates]
        axes.errorbar(
            [measurement.point.value for measurement in line],
            [rate.median for rate in rates],
            yerr=[below, above],
            marker="o",
            capsize=3,
            label=format_workers(count),
        )
    values = sorted({measurement.point.value for measurement in measurements})
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(table)
    axes.set_ylabel("sentences/s of each client" if table == "num_client" else "sentences/s")
    axes.grid(alpha=0.3)
    axes.legend()
    canvas.savefig(path, dpi=120)
