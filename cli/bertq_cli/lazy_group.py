"""Commands that are imported on first use."""

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from bertq_cli.help import HelpContext, examples, suggest


@dataclass(frozen=True)
class Entry:
    """A command of a group.

    Attributes:
        location: its module and attribute, as ``"commands.health:check"``.
        summary: its line in the help of the group.
        examples: command lines.
    """

    location: str
    summary: str
    examples: tuple[str, ...]


class LazyGroup(click.Group):
    """A group of commands, each in its own module of this package.

    Importing the client takes a third of a second, and a health check does not need it.

    Args:
        sections: the commands of each section of the help, by name.
    """

    context_class = HelpContext

    def __init__(
        self, *args: Any, sections: Mapping[str, Mapping[str, Entry]], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._sections = sections
        self._entries = {
            name: entry for section in sections.values() for name, entry in section.items()
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it; None if no command has this name."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.location.partition(":")
        try:
            command: click.Command = getattr(import_module(f"bertq_cli.{module}"), attribute)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)  # click would exit with status 1
        command.context_class = HelpContext
        command.short_help = entry.summary
        command.epilog = examples(entry.examples)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name; suggest names close to an unknown one."""
        name = args[0]
        is_unknown = name not in self._entries and not name.startswith("-")
        if is_unknown and not ctx.resilient_parsing:
            hint = suggest(name, self._entries)
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in sections; none of them is imported."""
        for title, section in self._sections.items():
            with formatter.section(title):
                width = max(map(len, self._entries))
                formatter.write_dl(
                    [(name.ljust(width), entry.summary) for name, entry in section.items()]
                )
