"""Types of options and arguments that are paths."""

from pathlib import Path
from typing import Any

import click


class NamedPath(click.Path):
    """A path as a ``Path``; an empty one, which would mean the working directory, is refused.

    It takes the arguments of ``click.Path``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path of an option's text."""
        if not str(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)
