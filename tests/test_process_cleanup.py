"""A test run that is ended by a signal leaves no process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import clean_environ
from tests.waiting import eventually

ROOT = Path(__file__).parents[1]

CONFTEST = "from tests.conftest import pytest_configure, server, start_own_server"

HANGING_TEST = """
import os, subprocess, sys, time
from pathlib import Path
from redis import Redis

def test_that_hangs(server, start_own_server):
    sleeping = subprocess.Popen(["sleep", "300"], start_new_session=True)
    pids = [os.getpid(), sleeping.pid]
    for port in (server.port, start_own_server().port):
        pids.append(Redis(port=port).info("server")["process_id"])
    Path("pids.new").write_text(" ".join(map(str, pids)))
    Path("pids.new").rename("pids")
    time.sleep(300)
"""


def is_running(pid: int) -> bool:
    """Whether a process exists, and is no zombie."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and pidfd_open of Linux")
@pytest.mark.parametrize(
    ("processes", "number", "to_test_process"),
    [
        (0, signal.SIGTERM, False),
        (0, signal.SIGINT, False),
        (1, signal.SIGKILL, False),
        (1, signal.SIGKILL, True),
    ],
    ids=["terminated", "interrupted", "killed", "the process of xdist killed"],
)
def test_a_run_that_is_ended_by_a_signal(
    tmp_path: Path, processes: int, number: signal.Signals, to_test_process: bool
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_hanging.py").write_text(HANGING_TEST)
    environ = {k: v for k, v in clean_environ().items() if not k.startswith("PYTEST_")}
    with (tmp_path / "output").open("wb") as output:
        run = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-n", str(processes), "--rootdir", str(tmp_path)],
            cwd=tmp_path,
            env=environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually((tmp_path / "pids").exists, 60)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 4
        assert all(map(is_running, pids))
        os.kill(pids[0] if to_test_process else run.pid, number)
        run.wait(60)
        eventually(lambda: not any(map(is_running, pids)), 20)
    finally:
        run.kill()
        run.wait()
