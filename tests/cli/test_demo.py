"""``bertq demo`` as a user runs it: what it prints, and that it leaves nothing."""

import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from rich.console import Console

from bertq_cli.demo import closest
from tests.conftest import clean_environ
from tests.waiting import eventually

RUN = [sys.executable, "-c", "from bertq_cli.main import main; main()", "demo"]


class Demo:
    """A run of the command, whose processes and temporary files can be told from all others."""

    def __init__(self, tmp_path: Path, *arguments: str, **variables: str) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = tmp_path / "tmp"
        self.temporary.mkdir()
        environ = clean_environ() | {
            "TMPDIR": str(self.temporary),
            "BERTQ_TEST": self.mark,
            **variables,
        }
        self.output = tmp_path / "output"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [*RUN, *arguments],
                env=environ,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def wait(self, timeout: float = 100) -> tuple[int, str]:
        """Wait for the end; return exit status and output."""
        status = self.process.wait(timeout)
        return status, self.output.read_text()

    def processes(self) -> list[int]:
        """The processes that carry the mark of this run in their environment."""
        found = []
        for directory in Path("/proc").iterdir():
            try:
                if (
                    directory.name.isdigit()
                    and self.mark.encode() in (directory / "environ").read_bytes()
                ):
                    found.append(int(directory.name))
            except OSError:
                continue
        return found

    def left(self) -> tuple[list[int], list[str]]:
        """Processes and temporary files that are still there."""
        return self.processes(), [path.name for path in self.temporary.iterdir()]


def test_sentences_of_ones_own(tmp_path: Path, tiny_model: Path) -> None:
    demo = Demo(tmp_path, "--model-dir", str(tiny_model), "the lord", "the law", "his him")
    status, output = demo.wait()
    assert status == 0, output
    assert re.search(r"encoded     3 sentences in \d+ ms: shape \(3, 32\), float32", output)
    assert re.search(r"the lord +│ +(the law|his him) +│ +-?\d\.\d{3}", output)
    assert "everything is stopped" in output
    assert demo.left() == ([], [])
    port = re.search(r"redis://127\.0\.0\.1:(\d+)/0", output)
    assert port is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port[1])), timeout=5)


def test_the_real_model(tmp_path: Path, demo_model: Path) -> None:
    demo = Demo(tmp_path)
    status, output = demo.wait()
    assert status == 0, output
    assert "all-MiniLM-L6-v2, from the cache" in output
    assert "shape (6, 384)" in output
    assert re.search(r"The cat sleeps.*A kitten", output)
    assert demo.left() == ([], [])


def test_somebody_elses_server(
    tmp_path: Path, tiny_model: Path, redis_url: str, redis: Redis
) -> None:
    demo = Demo(tmp_path, "the lord", BERTQ_REDIS_URL=redis_url, BERTQ_MODEL_DIR=str(tiny_model))
    status, output = demo.wait()
    assert status == 0, output
    assert "as BERTQ_REDIS_URL says" in output
    assert "shape (1, 32)" in output
    assert demo.left() == ([], [])
    assert redis.ping()
    ours = [key for key in redis.scan_iter("*") if not key.startswith(b"_kombu")]
    assert all(int(redis.ttl(key)) > 0 for key in ours), ours


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        ("redis ", signal.SIGINT, 130),
        ("worker ", signal.SIGINT, 130),
        ("redis ", signal.SIGTERM, 143),
    ],
)
def test_interrupted_it_leaves_nothing(
    tmp_path: Path, tiny_model: Path, moment: str, number: int, status: int
) -> None:
    # Many sentences, so that there is something to interrupt once the worker is ready.
    texts = [f"the lord {n}" for n in range(3000)]
    demo = Demo(tmp_path, "--model-dir", str(tiny_model), *texts)
    eventually(lambda: moment in demo.output.read_text(), 60)
    # Ctrl-C reaches the whole group of the terminal; a TERM the one process.
    (os.killpg if number == signal.SIGINT else os.kill)(demo.process.pid, number)
    ended, output = demo.wait(60)
    assert ended == status, output
    assert "Traceback" not in output
    assert demo.left() == ([], [])


@pytest.mark.parametrize(
    ("arguments", "variables", "reason"),
    [
        ([" "], {}, r"texts\[0\] is blank"),
        (["--model-dir", "/no/such/model"], {}, "no such model directory: /no/such/model"),
        ([], {"BERTQ_REDIS_URL": "nonsense"}, "BERTQ_REDIS_URL is 'nonsense'"),
        ([], {"BERTQ_REDIS_URL": "redis://:pw@127.0.0.1:1/0"}, r"redis://:\*\*@127.* cannot be"),
        (["--port", "1"], {}, "No such option"),
    ],
)
def test_what_cannot_work_is_one_line(
    tmp_path: Path,
    demo_model: Path,
    arguments: list[str],
    variables: dict[str, str],
    reason: str,
) -> None:
    demo = Demo(tmp_path, *arguments, **variables)
    status, output = demo.wait()
    assert status in (1, 2)
    assert re.search(reason, output), output
    assert "Traceback" not in output
    assert demo.left() == ([], [])


def test_the_table_of_closest_sentences() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.9, 0.1]], np.float32)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(closest(["east", "north", "nearly east"], vectors))
    lines = capture.get().splitlines()
    assert re.search(r"│ east +│ nearly east +│ 0.994", lines[3])
    assert re.search(r"│ north +│ nearly east +│ 0.110", lines[4])
    with console.capture() as capture:
        console.print(closest(["alone"], vectors[:1]))
    assert re.search(r"│ alone +│ - +│ - ", capture.get())
