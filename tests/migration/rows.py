"""The rows of docs/migration.md, and a check for each of them."""

import re
from collections.abc import Callable, Iterator

from tests.docs.tables import DOCS
from tests.migration.deployment import Deployment

Check = Callable[[Deployment], None]

#: By the first cell of the row.
CHECKS: dict[str, Check] = {}

_HEAD = "| bert-as-service | here | what changes |"


def names() -> list[str]:
    """The first cells of all tables, without the marks of code."""
    page = (DOCS / "migration.md").read_text(encoding="utf-8")
    tables = re.findall(rf"^{re.escape(_HEAD)}\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    found = list(_names(tables))
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == len(found) + 2 * len(tables), "a table has another head"
    return found


def _names(tables: list[str]) -> Iterator[str]:
    for table in tables:
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 3, line
            yield cells[0].replace("`", "")


def row(*cells: str) -> Callable[[Check], Check]:
    """Register the check of one or several rows."""

    def register(check: Check) -> Check:
        for cell in cells:
            assert cell not in CHECKS, cell
            CHECKS[cell] = check
        return check

    return register


def row_each(
    *cells: str,
) -> Callable[[Callable[[Deployment, str], None]], Callable[[Deployment, str], None]]:
    """Register a check of several rows; its argument is the first cell of a row."""

    def register(check: Callable[[Deployment, str], None]) -> Callable[[Deployment, str], None]:
        def bound(cell: str) -> Check:
            return lambda deployment: check(deployment, cell)

        for cell in cells:
            row(cell)(bound(cell))
        return check

    return register
