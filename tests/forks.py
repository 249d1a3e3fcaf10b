"""Run a program many times, in forks of a process that has imported its modules.

The start of Python and the imports take half a second of CPU time for each process.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """The end of a run: its exit status and its output."""

    status: int
    stdout: str
    stderr: str


class ForkServer:
    """A process that runs ``program`` in forks, one after another."""

    def __init__(self, process: "subprocess.Popen[str]", directory: Path) -> None:
        self._process = process
        self._directory = directory

    def run(self, arguments: list[str], environ: dict[str, str], cwd: Path) -> Done:
        """Run the program without input; undecodable output is replaced."""
        request = {"arguments": arguments, "environ": environ, "cwd": str(cwd)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        output = [(self._directory / name).read_text(errors="replace") for name in ("out", "err")]
        return Done(status, *output)


@contextmanager
def fork_server(program: str, modules: list[str], directory: Path) -> Iterator[ForkServer]:
    """Start a process that imports ``modules``; keep the output of runs in ``directory``."""
    command = [sys.executable, "-m", "tests.forks", program, str(directory), *modules]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield ForkServer(process, directory)
        assert process.stdin is not None
        process.stdin.close()


def _serve(directory: Path) -> dict[str, Any] | None:
    """Fork for each request; return it in the fork, and None at the end of the requests."""
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            request: dict[str, Any] = json.loads(line)
            for number, path in enumerate((Path(os.devnull), directory / "out", directory / "err")):
                flags = os.O_RDWR if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(path, flags, 0o600), number)
            return request
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()
    return None


if __name__ == "__main__":
    program, directory, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # or the end of each fork would visit all objects of the modules
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if request := _serve(Path(directory)):
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environ"])
        sys.argv[1:] = request["arguments"]
        exec(program, {"__name__": "__main__"})  # as python -c does
