"""Checks of output files before the work begins."""

import tempfile
from pathlib import Path

from bertq.errors import OutputError


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
