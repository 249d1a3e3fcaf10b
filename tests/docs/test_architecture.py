"""The page about the architecture: packages import only what it says, and its modules exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = {
    "bertq": ROOT / "bertq",
    "bertq_client": ROOT / "client" / "bertq_client",
    "bertq_bert": ROOT / "bert" / "bertq_bert",
    "bertq_workers": ROOT / "workers" / "bertq_workers",
    "bertq_gateway": ROOT / "gateway" / "bertq_gateway",
    "bertq_cli": ROOT / "cli" / "bertq_cli",
}


def imported(package: str) -> set[str]:
    """The other packages that a package imports, anywhere in its code."""
    names: set[str] = set()
    for path in PACKAGES[package].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module).partition(".")[0])
                if node.module == "bertq" and any(
                    alias.name == "BertClient" for alias in node.names
                ):
                    names.add("bertq_client")
    return (names & PACKAGES.keys()) - {package}


def documented() -> dict[str, set[str]]:
    """The imports of each package as in the table of the page."""
    table = PAGE.partition("<!-- imports -->")[2].partition("<!-- /imports -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\|", table, re.MULTILINE)
    return {package: set(re.findall(r"`(\w+)`", cell)) for package, cell in rows}


def test_packages_import_only_what_the_page_says() -> None:
    assert documented().keys() == PACKAGES.keys()
    # bertq imports the public names of the client when they are first used.
    assert imported("bertq") == {"bertq_client"}
    for package in PACKAGES.keys() - {"bertq"}:
        assert imported(package) == documented()[package], package


def test_bertq_imports_the_client_only_lazily() -> None:
    for path in PACKAGES["bertq"].glob("*.py"):
        if re.search(r"^ *(from|import) bertq_client", path.read_text(encoding="utf-8"), re.M):
            assert path.name == "__init__.py"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:bertq\w*\.)?[a-z_]+)`", PAGE))))
def test_the_modules_of_the_page_exist(name: str) -> None:
    package, dot, module = name.rpartition(".")
    packages = [PACKAGES[package]] if dot and package in PACKAGES else list(PACKAGES.values())
    found = any(any(path.rglob(f"{module}.py")) or (path / module).is_dir() for path in packages)
    others = {"unacked", "unacked_index", "bertq", "small", *PACKAGES}
    assert found or module in others, name
