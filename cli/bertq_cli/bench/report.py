"""Report of a campaign: the four tables, each with its plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bertq_cli.bench import plots
from bertq_cli.bench.campaign import Figure
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.plan import BASE, crew

NAME = "bench"

_NOTES = {
    "max_seq_len": "Every sentence fills max_seq_len: consecutive clauses are joined until they "
    "have at least so many wordpieces, and the rest is cut.",
    "client_batch_size": "One call after another of one client.",
    "num_client": "Clients that send at the same time: the rate of each of them, and of all "
    "together.",
    "max_batch_size": "Sentences that the graph may take at once.",
}


def document(
    figures: Sequence[Figure],
    context: Mapping[str, str],
    left_out: Sequence[str],
    rounds: int,
) -> Document:
    """Return the page for a campaign's figures."""
    names = list(dict.fromkeys(figure.point.table for figure in figures))
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    facts = {
        **context,
        "unless varied": f"{base}; a call has fewer sentences where it would take too long",
        "figures": f"sentences/s, medians of {rounds} rounds in turns (lowest\N{EN DASH}highest)",
    }
    if left_out:
        facts["left out"] = "; ".join(left_out)
    tables = [table(name, [one for one in figures if one.point.table == name]) for name in names]
    data = {"left_out": list(left_out), "figures": [figure.document() for figure in figures]}
    return Document("Speed of bertq", facts, tables, data)


def table(name: str, figures: Sequence[Figure]) -> Table:
    """Return one of the four tables: a row for each value, columns for the numbers of workers."""
    counts = sorted({figure.point.setup.workers for figure in figures})
    found = {(figure.point.value, figure.point.setup.workers): figure for figure in figures}
    each = name == "num_client"
    header = [name]
    for count in counts:
        header += [f"{crew(count)}, each", f"{crew(count)}, sum"] if each else [crew(count)]
    if name != "client_batch_size":
        header.append("sentences a call")
    rows = []
    for value in sorted({value for value, _ in found}):
        line = [found[value, count] for count in counts]
        row = [str(value)]
        for figure in line:
            row += [figure.each.text(1), figure.total.text()] if each else [figure.total.text()]
        if name != "client_batch_size":
            row.append(" / ".join(dict.fromkeys(f"{figure.batch:,}" for figure in line)))
        rows.append(row)
    return Table(f"Speed by {name}", header, rows, _NOTES[name], image(name))


def image(name: str) -> str:
    """Return the file name of a table's plot."""
    return f"{NAME}-{name}.png"


def write(made: Document, figures: Sequence[Figure], directory: Path) -> list[Path]:
    """Write page, numbers and plots; return their paths."""
    paths = made.write(directory, NAME)
    for name in dict.fromkeys(figure.point.table for figure in figures):
        path = directory / image(name)
        plots.draw(name, [one for one in figures if one.point.table == name], path)
        paths.append(path)
    return paths
