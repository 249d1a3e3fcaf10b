"""Page about a campaign: the four tables, each with its plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertq_cli.bench import plots
from bertq_cli.bench.arithmetic import Arithmetic
from bertq_cli.bench.campaign import Measurement
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.peak import Peak
from bertq_cli.bench.plan import BASE, format_workers

NAME = "bench"

_NOTES = {
    "max_seq_len": "Every sentence fills max_seq_len: consecutive clauses are joined until they "
    "have at least so many wordpieces, and the rest is cut. GFLOP/s are the operations of the "
    "network's products, in brackets as a share of the speed of large products on this machine.",
    "client_batch_size": "One call after another of one client.",
    "num_client": "Clients that send at the same time: the rate of each of them, and of all "
    "together.",
    "max_batch_size": "Sentences that the graph may take at once.",
}


@dataclass(frozen=True)
class Speeds:
    """Speed of the machine, and the data for shares of it.

    Attributes:
        peak: the speed of one device.
        arithmetic: of the network, up to the last layer that is computed.
        dtype: of the products.
        is_shared: whether all workers share one device.
    """

    peak: Peak
    arithmetic: Arithmetic
    dtype: str
    is_shared: bool

    def flops(self, measurement: Measurement) -> float:
        """Return the operations per second on each device; every sentence fills max_seq_len."""
        point = measurement.point
        devices = 1 if self.is_shared else point.setup.workers
        operations = self.arithmetic.operations([point.setup.max_seq_len])
        return measurement.total.median * operations / devices


def build_document(
    measurements: Sequence[Measurement],
    context: Mapping[str, str],
    left_out: Sequence[str],
    rounds: int,
    speeds: Speeds | None = None,
) -> Document:
    """Return the page for a campaign's figures.

    Args:
        measurements: the figures.
        context: facts about the machine and the model.
        left_out: what could not be measured, and why.
        rounds: measurements of each figure.
        speeds: for the table by max_seq_len.
    """
    names = list(dict.fromkeys(measurement.point.table for measurement in measurements))
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    facts = {
        **context,
        "unless varied": f"{base}; a call has fewer sentences where it would take too long",
        "figures": f"sentences/s, medians of {rounds} rounds in turns (lowest\N{EN DASH}highest)",
    }
    if left_out:
        facts["left out"] = "; ".join(left_out)
    if speeds is not None:
        facts["speed of the machine" if speeds.is_shared else "speed of a GPU"] = str(speeds.peak)
    tables = [build_table(name, _of_table(measurements, name), speeds) for name in names]
    figures = []
    for measurement in measurements:
        figure = measurement.document()
        if speeds is not None and measurement.point.is_filled:
            figure["flops_per_device"] = speeds.flops(measurement)
        figures.append(figure)
    data = {"left_out": list(left_out), "figures": figures}
    return Document("Speed of bertq", facts, tables, data)


def build_table(
    name: str, measurements: Sequence[Measurement], speeds: Speeds | None = None
) -> Table:
    """Return one of the four tables: a row for each value, columns for the numbers of workers."""
    counts = sorted({measurement.point.setup.workers for measurement in measurements})
    found = {(one.point.value, one.point.setup.workers): one for one in measurements}
    each = name == "num_client"
    header = [name]
    for count in counts:
        header += (
            [f"{format_workers(count)}, each", f"{format_workers(count)}, sum"]
            if each
            else [format_workers(count)]
        )
    if name != "client_batch_size":
        header.append("sentences a call")
    if name == "max_seq_len" and speeds is not None:
        header += [f"GFLOP/s, {format_workers(count)}" for count in counts]
    rows = []
    for value in sorted({value for value, _ in found}):
        line = [found[value, count] for count in counts]
        row = [str(value)]
        for measurement in line:
            row += (
                [measurement.each.text(1), measurement.total.text()]
                if each
                else [measurement.total.text()]
            )
        if name != "client_batch_size":
            row.append(
                " / ".join(dict.fromkeys(f"{measurement.call_size:,}" for measurement in line))
            )
        if name == "max_seq_len" and speeds is not None:
            row += [speeds.peak.share(speeds.dtype, speeds.flops(one)) for one in line]
        rows.append(row)
    return Table(f"Speed by {name}", header, rows, _NOTES[name], image_name(name))


def image_name(name: str) -> str:
    """Return the file name of a table's plot."""
    return f"{NAME}-{name}.png"


def write(document: Document, measurements: Sequence[Measurement], directory: Path) -> list[Path]:
    """Write page, numbers and plots; return their paths."""
    paths = document.write(directory, NAME)
    for name in dict.fromkeys(measurement.point.table for measurement in measurements):
        path = directory / image_name(name)
        plots.draw(name, _of_table(measurements, name), path)
        paths.append(path)
    return paths


def _of_table(measurements: Sequence[Measurement], name: str) -> list[Measurement]:
    return [measurement for measurement in measurements if measurement.point.table == name]
