"""The `bertq` command itself: its commands are imported when they are used."""

import subprocess
import sys

import click
import pytest

from bertq_cli import lazy_group
from bertq_cli.main import cli
from tests.cli.runs import BERTQ
from tests.conftest import clean_environ


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


@pytest.mark.parametrize("package", ["click", "platformdirs", "rich"])
def test_without_its_extra_it_ends_with_one_line(package: str) -> None:
    script = (
        f"import runpy, sys; sys.modules[{package!r}] = None\n"
        "runpy.run_module('bertq_cli', run_name='__main__')"
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
    ],
)
def test_commands_that_start_a_worker_name_its_extra(command: list[str], extra: str) -> None:
    script = "import sys; sys.modules['celery'] = None; from bertq_cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *command],
        env=clean_environ(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(f" needs more packages: pip install 'bertq[{extra}]'\n")


def test_an_unknown_command_is_refused() -> None:
    done = subprocess.run([*BERTQ, "nope"], env=clean_environ(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "No such command 'nope'" in done.stderr


def test_ctrl_c_while_a_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lazy_group, "import_module", interrupt)
    with pytest.raises(SystemExit) as ended:
        cli(["status"], prog_name="bertq")
    assert ended.value.code == 130
