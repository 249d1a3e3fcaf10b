"""The lines of an input that rows of a file of vectors belong to."""

from collections.abc import Iterable
from contextlib import closing

from bertq_client.files.line import Sentence
from bertq_client.files.source import TextSource


def read_lines_of_rows(
    source: TextSource, rows: Iterable[int], *, skips_blanks: bool
) -> dict[int, tuple[int, Sentence | None]]:
    """Return line number and sentence for some rows; rows without a line are left out.

    Args:
        source: the input.
        rows: numbers of rows, from 0.
        skips_blanks: whether blank lines have no rows.

    Raises:
        BadInputValue: a line before the last row is invalid.
    """
    missing = set(rows)
    found: dict[int, tuple[int, Sentence | None]] = {}
    row = 0
    with closing(source.read()) as lines:
        for number, sentence in lines:
            if sentence is None and skips_blanks:
                continue
            if row in missing:
                found[row] = number, sentence
                missing.discard(row)
            row += 1
            if not missing:
                break
    return found
