"""Plots of the tables; needs matplotlib, from the extra ``bench``."""

from collections.abc import Sequence
from pathlib import Path

from bertq_cli.bench.campaign import Figure
from bertq_cli.bench.plan import crew


def draw(table: str, figures: Sequence[Figure], path: Path) -> None:
    """Draw one table: a line for each number of workers, with the range of its measurements."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6.4, 4.0), layout="constrained")
    axes = canvas.subplots()
    lines = {
        count: [figure for figure in figures if figure.point.setup.workers == count]
        for count in sorted({figure.point.setup.workers for figure in figures})
    }
    for count, line in lines.items():
        rates = [figure.each if table == "num_client" else figure.total for figure in line]
        below = [rate.median - rate.low for rate in rates]
        above = [rate.high - rate.median for rate in rates]
        axes.errorbar(
            [figure.point.value for figure in line],
            [rate.median for rate in rates],
            yerr=[below, above],
            marker="o",
            capsize=3,
            label=crew(count),
        )
    values = sorted({figure.point.value for figure in figures})
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(table)
    axes.set_ylabel("sentences/s of each client" if table == "num_client" else "sentences/s")
    axes.grid(alpha=0.3)
    axes.legend()
    canvas.savefig(path, dpi=120)
