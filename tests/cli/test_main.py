"""The `bertq` command itself: its commands are imported when they are used."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

from bertq_cli import lazy_group
from bertq_cli.main import cli
from tests.cli.runs import BERTQ
from tests.conftest import clean_environ


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command, not on a terminal."""
    environ = clean_environ() | variables
    return subprocess.run([*BERTQ, *arguments], env=environ, capture_output=True, text=True)


def test_every_command_is_listed() -> None:
    context = click.Context(cli)
    names = cli.list_commands(context)
    assert {"demo", "encode", "health", "serve"} <= set(names)
    for name in names:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
    assert cli.get_command(context, "nope") is None


def test_none_is_imported_for_the_version() -> None:
    script = (
        "import sys; from bertq_cli.main import main\n"
        "try: main()\n"
        "finally: assert not {'numpy', 'redis', 'bertq_client'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", script, "--version"]
    done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bertq, version ")


@pytest.mark.parametrize("module", ["bertq", "bertq_cli"])
@pytest.mark.parametrize("package", ["click", "platformdirs", "rich"])
def test_without_its_extra_it_ends_with_one_line(package: str, module: str) -> None:
    script = (
        f"import runpy, sys; sys.modules[{package!r}] = None\n"
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", script, "status"]
    done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True)
    message = "Error: the bertq command needs more packages: pip install 'bertq[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["serve", "--model-dir", ".", "--redis-url", "redis://127.0.0.1:1/0"], "worker"),
        (["demo"], "all"),
        (["bench"], "worker"),
        (["download", "org/name@" + 40 * "a"], "hub"),
    ],
)
def test_commands_name_the_extra_that_they_need(
    tmp_path: Path, command: list[str], extra: str
) -> None:
    package = "huggingface_hub" if extra == "hub" else "celery"
    script = f"import sys; sys.modules[{package!r}] = None; from bertq_cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *command],
        env=clean_environ() | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.removeprefix(f"downloading {command[-1]}\n").count("\n") == 1
    assert done.stderr.endswith(f" needs more packages: pip install 'bertq[{extra}]'\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nope"], "Error: No such command 'nope'.\n"),
        (["sevre"], "Error: No such command 'sevre'. Did you mean serve?\n"),
        (["redi"], "Error: No such command 'redi'. Did you mean redis?\n"),
        (["encode", "x", "--overwite"], "--overwrite"),
    ],
)
def test_a_misspelled_name_is_refused_with_a_suggestion(arguments: list[str], reason: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: bertq ")
    assert reason in done.stderr


def test_the_help_has_sections_and_every_command_has_examples() -> None:
    listed = run("--help").stdout
    for heading in ("\nBegin:\n", "\nServe:\n", "\nEncode:\n", "\nOperate:\n"):
        assert heading in listed
    context = click.Context(cli)
    for name in cli.list_commands(context):
        assert re.search(rf"\n  {name} +[A-Z].*\.\n", listed), name
        command = cli.get_command(context, name)
        assert command is not None
        shown = command.get_help(command.make_context(name, [], resilient_parsing=True))
        _, found, lines = click.unstyle(shown).partition("Examples:")
        assert found, name
        for line in lines.strip().splitlines():
            check_example(line.strip())


def check_example(line: str) -> None:
    """Check that an example is a command line that bertq accepts."""
    line = re.sub(r".*\$\((.*)\)", r"\1", line)
    program, name, *arguments = shlex.split(line)
    assert program == "bertq"
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_parser(click.Context(command)).parse_args(arguments)


def in_terminal(*arguments: str, **variables: str) -> str:
    """The output of a command on a terminal."""
    leader, follower = os.openpty()
    environ = {**clean_environ(), "TERM": "xterm", **variables}
    environ.pop("NO_COLOR", None) if "NO_COLOR" not in variables else None
    command = [*BERTQ, *arguments]
    subprocess.run(command, env=environ, stdout=follower, stderr=follower)
    os.close(follower)
    output = b""
    with suppress(OSError):  # at the end
        while block := os.read(leader, 65536):
            output += block
    os.close(leader)
    return output.decode()


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["nope"]])
def test_colour_only_on_a_terminal_without_no_color(arguments: list[str]) -> None:
    assert "\x1b[" in in_terminal(*arguments)
    assert "\x1b[" not in in_terminal(*arguments, NO_COLOR="1")
    done = run(*arguments)
    assert "\x1b[" not in done.stdout + done.stderr


def test_completion_in_a_shell() -> None:
    script = run(_BERTQ_COMPLETE="bash_source").stdout
    assert "complete -o nosort -F _bertq_completion bertq" in script
    words = {"COMP_WORDS": "bertq he", "COMP_CWORD": "1", "_BERTQ_COMPLETE": "bash_complete"}
    assert run(**words).stdout == "plain,health\n"


def test_python_m_bertq() -> None:
    command = [sys.executable, "-m", "bertq", "--version"]
    done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bertq, version ")


def test_ctrl_c_while_a_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lazy_group, "import_module", interrupt)
    with pytest.raises(SystemExit) as ended:
        cli(["status"], prog_name="bertq")
    assert ended.value.code == 130


CTRL_C_IN_A_FINALIZER = """
import time
from bertq_cli import main

class Interrupted:
    def __del__(self):
        raise KeyboardInterrupt

def run(**_):
    Interrupted()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)

main.cli.main = run
main.main()
"""


def test_ctrl_c_in_a_finalizer() -> None:
    command = [sys.executable, "-c", CTRL_C_IN_A_FINALIZER]
    done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
