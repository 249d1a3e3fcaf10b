"""Results of a measurement as a Markdown page and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: its heading.
        header: names of the columns.
        rows: cells, as text; numbers must be formatted.
        note: a paragraph before it.
        image: file name of a plot after it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    image: str | None = None

    def markdown(self) -> str:
        """Return the table with heading, note and plot."""
        parts = [f"## {self.title}", self.note, grid(self.header, self.rows)]
        if self.image:
            parts.append(f"![{self.title}]({self.image})")
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True)
class Document:
    """The results of a measurement, with its context.

    Attributes:
        title: heading of the page.
        context: facts about machine, versions, model and corpus: name -> text.
        tables: in order.
        data: every number, for JSON.
    """

    title: str
    context: Mapping[str, str]
    tables: Sequence[Table]
    data: Mapping[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """Return the page."""
        facts = "\n".join(f"- {name}: {value}" for name, value in self.context.items())
        parts = [f"# {self.title}", facts, *(table.markdown() for table in self.tables)]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Return all numbers and the context as JSON."""
        whole = {"title": self.title, "context": dict(self.context), **self.data}
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"

    def write(self, directory: Path, name: str) -> list[Path]:
        """Write ``name.md`` and ``name.json`` and return their paths."""
        directory.mkdir(parents=True, exist_ok=True)
        page, numbers = directory / f"{name}.md", directory / f"{name}.json"
        page.write_text(self.markdown(), encoding="utf-8")
        numbers.write_text(self.json(), encoding="utf-8")
        return [page, numbers]


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column aligned left, the others right.

    Raises:
        ValueError: a row and the header differ in their number of cells.
    """
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    for line in lines:
        if len(line) != len(header):
            raise ValueError(f"{len(line)} cells for {len(header)} columns: {line}")
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
