"""The README and the tutorial: their programs and commands, run as a new user runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bertq_cli.models import packaged
from tests.conftest import StartWorker, clean_environ
from tests.docs import tables

ROOT = tables.DOCS.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (tables.DOCS / "tutorial.md").read_text(encoding="utf-8")


def blocks(text: str, language: str = "") -> list[str]:
    """Return the code blocks of a page that are in a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


def steps(text: str) -> list[tuple[str, str]]:
    """Return the commands of a page that show their output, and this output."""
    shown = [block for block in blocks(text) if block.startswith("$ ")]
    parts = [part for block in shown for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert "![" in README
    (program,) = blocks(README, "python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 10


def test_the_readme_has_one_command_to_try_it_and_one_to_test_it() -> None:
    assert "pip install -e '.[all]' && bertq demo\n" in blocks(README)
    assert "pip install -c constraints.txt -e '.[all,dev]' && pytest\n" in blocks(README)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)", README))))
def test_a_link_of_the_readme(target: str) -> None:
    assert (ROOT / target).is_file()


@pytest.fixture(scope="module")
def url(module_redis_url: str, module_start_worker: StartWorker) -> str:
    """Start a worker with the demo's model, and return the URL of its Redis."""
    if not packaged.DEMO.is_cached():
        pytest.skip("the demo's model is not in the cache: run bertq demo once")
    model = packaged.DEMO.directory
    module_start_worker(module_redis_url, model, "--concurrency", "1").wait_ready()
    return module_redis_url


def run(command: list[str], url: str, folder: Path) -> str:
    """Run a command, and return what it prints to standard output."""
    environ = clean_environ()
    environ["BERTQ_REDIS_URL"] = url
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_of_the_readme(url: str, tmp_path: Path) -> None:
    (program,) = blocks(README, "python")
    expected = re.findall(r"^ *print\(.*\)  # (.+)$", program, re.MULTILINE)
    assert expected
    printed = run([sys.executable, "-c", program], url, tmp_path)
    assert printed.splitlines() == expected


def test_the_tutorial(url: str, tmp_path: Path) -> None:
    (notes,) = [block for block in blocks(TUTORIAL) if block.startswith("cat > notes.txt")]
    run(["bash", "-c", notes], url, tmp_path)
    (program,) = blocks(TUTORIAL, "python")
    (tmp_path / "search.py").write_text(program, encoding="utf-8")
    shown = [
        (command, output)
        for command, output in steps(TUTORIAL)
        if command.startswith(("bertq encode ", "python "))
    ]
    assert len(shown) == 4
    for command, output in shown:
        printed = run(["bash", "-c", command], url, tmp_path)
        expected, dots, _ = output.partition("...\n")
        assert printed.startswith(expected) if dots else printed == expected, command
