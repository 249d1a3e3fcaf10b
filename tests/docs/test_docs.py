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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site without a warning, and return its folder."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_navigation(site: Path) -> None:
    for page in tables.DOCS.glob("*.md"):
        built = "index.html" if page.stem == "index" else f"{page.stem}/index.html"
        assert (site / built).is_file(), page.name


def test_the_reference_has_the_public_names(site: Path) -> None:
    reference = (site / "reference/index.html").read_text()
    for name in ("encode_stream", "SentenceTooLong", "read_source"):
        assert name in reference
    signature = re.search(r'<div class="doc-signature.*?</div>', reference, re.DOTALL)
    assert signature
    assert signature[0].count("\n") > 10, "the signature of BertClient has one line"


def test_a_page_fetches_nothing_from_other_servers(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.search(r'(src|href)="https?://[^"]*\.(js|css|woff2?)', page.read_text()), page


def test_a_page_has_a_dark_mode_and_links_to_its_neighbours(site: Path) -> None:
    page = (site / "serving/index.html").read_text()
    for part in ('data-md-color-scheme="slate"', "md-footer__link--prev", "md-footer__link--next"):
        assert part in page


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
