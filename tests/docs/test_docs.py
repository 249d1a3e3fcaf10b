"""The documentation: it builds, and its tables are those of the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bertq import errors
from tests.docs import tables

ROOT = tables.DOCS.parent


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in tables.DOCS.glob("*.md"):
        built = "index.html" if page.stem == "index" else f"{page.stem}/index.html"
        assert (tmp_path / built).is_file(), f"{page.name} is not in the site's navigation"
    reference = (tmp_path / "reference/index.html").read_text()
    for name in ("encode_stream", "SentenceTooLong", "read_source"):
        assert name in reference
    # Files that a browser would fetch from other servers.
    assert not re.search(r'(src|href)="https?://[^"]*\.(js|css|woff2?)', reference)


def test_the_table_of_settings_is_that_of_the_code() -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.settings() in page, "run python -m tests.docs.tables"
    assert tables.filled(page) == page


def test_every_error_is_explained() -> None:
    page = (tables.DOCS / "errors.md").read_text(encoding="utf-8")
    names = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.BertqError)
    ]
    abstract = {"BertqError", "BadInput"}
    assert {name for name in names if f"`{name}`" not in page} <= abstract


@pytest.mark.parametrize("page", sorted(path.name for path in tables.DOCS.glob("*.md")))
def test_python_in_pages_can_be_compiled(page: str) -> None:
    text = (tables.DOCS / page).read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        # Some blocks await at the top, as in a notebook.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        assert compile(block, page, "exec", flags)
    assert text.startswith("# ")
