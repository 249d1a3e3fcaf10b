"""The page about troubleshooting: its messages are those of the code."""

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.docs import tables

ROOT = tables.DOCS.parent
PAGE = (tables.DOCS / "troubleshooting.md").read_text(encoding="utf-8")

#: Messages of other programs.
OTHERS = {"LLVM compilation error: Permission denied"}


def messages() -> list[str]:
    """Return the messages in the first column of the tables."""
    cells = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", PAGE, re.MULTILINE)
    codes = [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]
    is_name = re.compile(r"[A-Za-z]+|curl|--.*|127\.0\.0\.1").fullmatch
    return [code for code in codes if not is_name(code) and code not in OTHERS]


@functools.cache
def texts() -> str:
    """Return the strings of the code, those of f-strings included."""
    found = []
    for folder in ("bertq", "client", "workers", "bert", "gateway", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(Path(path).read_text(encoding="utf-8")))
            found += [
                node.value
                for node in nodes
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
    return "\n".join(found)


def test_the_page_has_messages() -> None:
    assert len(messages()) > 30


@pytest.mark.parametrize("message", messages())
def test_a_message_is_one_of_the_code(message: str) -> None:
    assert message in texts(), "docs/troubleshooting.md quotes a message that the code has not"
