"""Runs of the ``bertq`` command: in this process, or with a mark on all processes and files."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import click
from click.testing import CliRunner

from bertq.errors import BertqError
from tests.conftest import clean_environ
from tests.waiting import eventually

BERTQ = [sys.executable, "-c", "from bertq_cli.main import main; main()"]

#: The same with SIGHUP not ignored, even if the tests run under nohup: bertq would respect that.
_BERTQ_WITH_SIGHUP = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "from bertq_cli.main import main; main()",
]


def invoke(command: click.Command, *arguments: object) -> str:
    """Run a sub-command in this process, and return its output; raise its error."""
    done = CliRunner().invoke(command, list(map(str, arguments)))
    if isinstance(done.exception, BertqError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


class Run:
    """``bertq`` with arguments and variables, in a new process group."""

    def __init__(self, tmp_path: Path, *arguments: str, **variables: str) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = tmp_path / f"tmp-{self.mark}"
        self.temporary.mkdir()
        environ = clean_environ() | {
            "TMPDIR": str(self.temporary),
            "BERTQ_TEST": self.mark,
            "PYTHONFAULTHANDLER": "1",
            **variables,
        }
        self.path = tmp_path / f"output-{self.mark}"
        with self.path.open("wb") as file:
            self.process = subprocess.Popen(
                [*_BERTQ_WITH_SIGHUP, *arguments],
                env=environ,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def output(self) -> str:
        """The output so far."""
        return self.path.read_text(errors="replace")

    def wait(self, timeout: float = 100) -> tuple[int, str]:
        """Wait for the end; return exit status and output."""
        try:
            return self.process.wait(timeout), self.output
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it prints its stacks
            self.process.wait(10)
            raise AssertionError(self.output) from None

    def wait_for(self, text: str, timeout: float = 90, times: int = 1) -> None:
        """Wait until it has printed ``text`` ``times`` times; fail if it ends before."""

        def printed() -> bool:
            there = self.output.count(text) >= times
            assert there or self.process.poll() is None, self.output
            return there

        eventually(printed, timeout)

    def processes(self) -> dict[int, str]:
        """The command lines of the processes that carry the mark of this run, by process id."""
        found = {}
        for directory in Path("/proc").iterdir():
            try:
                if (
                    directory.name.isdigit()
                    and self.mark.encode() in (directory / "environ").read_bytes()
                ):
                    line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(directory.name)] = line
            except OSError:
                continue
        return found

    def find(self, *words: str) -> int:
        """The process id of the one process of this run with these words in its command line."""
        (pid,) = (
            pid for pid, line in self.processes().items() if all(word in line for word in words)
        )
        return pid

    def left(self) -> tuple[dict[int, str], list[str]]:
        """Return its remaining processes and temporary files."""
        return self.processes(), [path.name for path in self.temporary.iterdir()]

    def end(self) -> None:
        """Kill its remaining processes."""
        for pid in [self.process.pid, *self.processes()]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        self.process.wait()
