"""The page about integrations: its Python programs, with the real packages, against a gateway.

They need the extra ``integrations``. Its packages may be in an environment of their own: then
``BERTQ_INTEGRATIONS_PYTHON`` is that environment's interpreter.
"""

import functools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.stub import stub_worker
from tests.conftest import clean_environ
from tests.docs import tables
from tests.gateway.conftest import running

PAGE = (tables.DOCS / "integrations.md").read_text(encoding="utf-8")
ADDRESS, MODEL = "http://127.0.0.1:8125", "all-MiniLM-L6-v2"
PYTHON = os.environ.get("BERTQ_INTEGRATIONS_PYTHON", sys.executable)


def sections() -> dict[str, str]:
    """Return the text of each section that has a Python program, by its heading."""
    parts = re.split(r"^## (.+)\n", PAGE, flags=re.MULTILINE)
    return {
        title: text
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
        if "```python" in text
    }


def packages(title: str) -> list[str]:
    """Return the packages that a section installs."""
    found = re.search(r"^pip install (.+)$", sections()[title], re.MULTILINE)
    assert found, title
    return found[1].split()


@functools.cache
def installed() -> frozenset[str]:
    """Return the packages of the interpreter that runs the programs."""
    code = "from importlib.metadata import distributions; print(*(d.name for d in distributions()))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    return frozenset(re.sub(r"[-_.]+", "-", name).lower() for name in done.stdout.split())


@pytest.fixture(scope="module")
def address(module_redis_url: str) -> Iterator[str]:
    """Run a gateway in front of a stub worker, and return the gateway's address."""
    with (
        stub_worker(module_redis_url),
        running(module_redis_url, aliases={MODEL: "stub"}) as gateway,
    ):
        yield f"http://127.0.0.1:{gateway.port}"


@pytest.mark.parametrize("title", sections())
def test_a_program_of_the_page(title: str, address: str, tmp_path: Path) -> None:
    if missing := set(packages(title)) - installed():
        pytest.skip(f"not installed: {', '.join(sorted(missing))} (extra integrations)")
    (program,) = re.findall(r"^```python\n(.*?)^```", sections()[title], re.DOTALL | re.MULTILINE)
    assert ADDRESS in program
    path = tmp_path / "program.py"
    path.write_text(program.replace(ADDRESS, address), encoding="utf-8")
    own = {
        "CHROMA_OPENAI_API_KEY": "any",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [PYTHON, path], env=clean_environ() | own, capture_output=True, text=True, timeout=100
    )
    # The stub's vectors contain the length and the start of a text, so the answer shows them.
    assert (done.returncode, done.stdout) == (0, "Shares lost a tenth this week.\n"), done.stderr


def test_the_extra_has_the_packages_of_the_page() -> None:
    project = tomllib.loads((tables.DOCS.parent / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["integrations"]
    named = {re.split("[<>=]", requirement)[0] for requirement in extra}
    assert named == {package for title in sections() for package in packages(title)}


def test_the_page_has_all_of_them() -> None:
    assert list(sections()) == [
        "Python", "LangChain", "LangChain, API of TEI", "LlamaIndex", "LlamaIndex, API of TEI",
        "Haystack", "Chroma", "Qdrant",
    ]  # fmt: skip
    assert "```javascript" in PAGE
    assert "$ curl " in PAGE
