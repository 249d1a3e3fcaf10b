"""Help and errors of the command line: sections, examples, suggestions and colour."""

import difflib
import logging
import os
from collections.abc import Iterable
from typing import Any

import click

from bertq_cli.wording import for_command_line


class _HelpFormatter(click.HelpFormatter):
    """A formatter with bold headings and coloured names; click removes both for a file."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, _heading(prefix or "Usage: "))

    def write_heading(self, heading: str) -> None:
        super().write_heading(_heading(heading))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **options: Any) -> None:
        coloured = [(click.style(name, fg="cyan"), text) for name, text in rows]
        super().write_dl(coloured, *args, **options)


class HelpContext(click.Context):
    """A context without colour where ``NO_COLOR`` is set; click decides by the terminal."""

    formatter_class = _HelpFormatter

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if os.environ.get("NO_COLOR"):
            self.color = False


def examples(lines: Iterable[str]) -> str:
    """Return the text of a command's examples, for the end of its help."""
    return "\n".join(["\b", _heading("Examples:"), *(f"  {line}" for line in lines)])


def suggest(word: str, possible: Iterable[str]) -> str:
    """Return a question after the words that are close to an unknown one, or an empty text."""
    close = difflib.get_close_matches(word, possible, n=2)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def print_error(error: BaseException | str) -> None:
    """Print an error and its notes on standard error; ``Error`` is red on a terminal."""
    _print_labelled("Error:", "red", str(error))
    for note in getattr(error, "__notes__", ()):
        click.echo(for_command_line(note), err=True)


def print_warning(text: str) -> None:
    """Print a warning as one line on standard error."""
    _print_labelled("Warning:", "yellow", text)


def print_warnings_of_bertq() -> None:
    """Print the warnings and errors that bertq logs, in the words of the command line."""
    handler = _WarningHandler(logging.WARNING)
    logging.getLogger("bertq").addHandler(handler)


class _WarningHandler(logging.Handler):
    """Prints warnings and errors of the log on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        show = print_error if record.levelno >= logging.ERROR else print_warning
        show(record.getMessage())


def _print_labelled(label: str, colour: str, text: str) -> None:
    no_colour = False if os.environ.get("NO_COLOR") else None
    line = f"{click.style(label, fg=colour, bold=True)} {for_command_line(text)}"
    click.echo(line, err=True, color=no_colour)


def print_usage_error(error: click.ClickException) -> None:
    """Print an error of the arguments, with the usage of the command."""
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(context.get_usage(), err=True, color=context.color)
        click.echo(f"Try '{context.command_path} --help' for help.\n", err=True)
    print_error(error.format_message())


def _heading(text: str) -> str:
    return click.style(text, bold=True)
