"""Commands that are imported on first use."""

import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group of commands, each in its own module of this package.

    Importing the client takes a third of a second, and a health check does not need it.

    Args:
        locations: module and attribute of each command, as ``"commands.health:check"``.
    """

    def __init__(self, *args: Any, locations: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._locations = locations

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(self._locations)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it; None if no command has this name."""
        if cmd_name not in self._locations:
            return None
        module, _, attribute = self._locations[cmd_name].partition(":")
        try:
            command: click.Command = getattr(import_module(f"bertq_cli.{module}"), attribute)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)  # click would exit with status 1
        return command
