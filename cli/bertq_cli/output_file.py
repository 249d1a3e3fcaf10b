"""Output files and directories: types of options, and checks before the work begins."""

import tempfile
from pathlib import Path
from typing import Any

import click

from bertq.errors import OutputError


class _NamedPath(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty name, which would mean the working directory."""
        if not str(value):
            kind = "file" if self.file_okay else "directory"
            self.fail(f"the name of the {kind} is empty", param, ctx)
        return super().convert(value, param, ctx)


class OutputPath(_NamedPath):
    """The path of a file to write."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)


class OutputDirectory(_NamedPath):
    """The path of a directory to write to."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)


def check(output: Path, source: str = "", *, overwrite: bool) -> None:
    """Check that a file can be written and renamed into its place.

    Args:
        output: the file.
        source: the input, which must be another file.
        overwrite: whether it may exist.

    Raises:
        OutputError: it exists already, is the input, or cannot be written.
    """
    try:
        if output.is_file() and Path(source).is_file() and output.samefile(source):
            raise OutputError(f"{output} would be written over the input: choose another name")
        if output.is_dir():
            raise OutputError(f"-o {output} is a directory: give the name of a file")
        if output.exists() and not overwrite:
            raise OutputError(f"{output} already exists: choose another name, or add --overwrite")
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from None
