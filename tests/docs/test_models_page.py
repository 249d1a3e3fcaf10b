"""The page about models: its families match the code, its lines the log of workers."""

import re

import pytest

from bertq_bert.families import FAMILIES
from bertq_bert.source import read_source
from tests.docs import tables

PAGE = (tables.DOCS / "models.md").read_text(encoding="utf-8")
MODELS = tables.DOCS.parent / "tests" / "data" / "models"


def section(title: str) -> list[list[str]]:
    """The rows of the first table below a heading, without the header."""
    text = PAGE.partition(f"# {title}\n")[2]
    lines = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    end = next((n for n, line in enumerate(lines) if n > 2 and line.startswith("|---")), None)
    rows = lines[2:] if end is None else lines[2 : end - 1]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_families() -> None:
    documented = [set(re.findall(r"`(\w+(?:-\w+)*)`", row[1])) for row in section("Families")]
    assert documented == [set(family.model_types) for family in FAMILIES]


LINE = re.compile(
    r"(mean|first token) of the last layer(, Dense to \d+ numbers with tanh)?, \d+ tokens"
    r"(, L2-normalized)?(, prompts query)? \(from modules\.json\)"
    r"|a score, \d+ tokens \(from config\.json\)"
    r"|sparse weights of 30522 tokens, and the length of its directory \(from modules\.json\)"
)


def test_thirty_models() -> None:
    rows = section("30 models and their lines")
    assert len(rows) == len({row[0] for row in rows}) == 30
    lines = [line for _, _, line in rows if line != "the same"]
    assert [line for line in lines if not LINE.fullmatch(line)] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "bert-mean-norm-old",
            "mean of the last layer, 96 tokens, L2-normalized (from modules.json)",
        ),
        ("bert-cls-old", "first token of the last layer, 96 tokens (from modules.json)"),
        (
            "bert-prompts-unused",
            "mean of the last layer, 96 tokens, prompts document|query (from modules.json)",
        ),
        ("cross-bert-identity-old", "a score, 96 tokens (from config.json)"),
        ("splade-bert-old", "sparse weights of 400 tokens, 96 tokens (from modules.json)"),
    ],
)
def test_lines_as_workers_print_them(name: str, line: str) -> None:
    assert read_source(MODELS / name).model.description == line
