"""Page about a campaign: the four tables, each with its plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bertq_cli.bench import plots
from bertq_cli.bench.campaign import Measurement
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.plan import BASE, format_workers

NAME = "bench"

_NOTES = {
    "max_seq_len": "Every sentence fills max_seq_len: consecutive clauses are joined until they "
    "have at least so many wordpieces, and the rest is cut.",
    "client_batch_size": "One call after another of one client.",
    "num_client": "Clients that send at the same time: the rate of each of them, and of all "
    "together.",
    "max_batch_size": "Sentences that the graph may take at once.",
}


def build_document(
    measurements: Sequence[Measurement],
    context: Mapping[str, str],
    left_out: Sequence[str],
    rounds: int,
) -> Document:
    """Return the page for a campaign's figures."""
    names = list(dict.fromkeys(measurement.point.table for measurement in measurements))
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    facts = {
        **context,
        "unless varied": f"{base}; a call has fewer sentences where it would take too long",
        "figures": f"sentences/s, medians of {rounds} rounds in turns (lowest\N{EN DASH}highest)",
    }
    if left_out:
        facts["left out"] = "; ".join(left_out)
    tables = [build_table(name, _of_table(measurements, name)) for name in names]
    figures = [measurement.document() for measurement in measurements]
    data = {"left_out": list(left_out), "figures": figures}
    return Document("Speed of bertq", facts, tables, data)


def build_table(name: str, measurements: Sequence[Measurement]) -> Table:
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
