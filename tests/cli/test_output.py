"""A service whose output is not read: it continues to work, and ends on a signal."""

import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertq import BertClient
from bertq_cli.service import worker_lines
from bertq_cli.service.embedded_redis import free_port
from bertq_cli.service.output import StatusOutput
from tests.cli.runs import BERTQ
from tests.conftest import clean_environ
from tests.waiting import eventually


class Service:
    """``bertq serve`` with one worker and an output of the test's choice."""

    def __init__(
        self, model: Path, tmp_path: Path, output: int, *wrapper: str, level: str = "INFO"
    ) -> None:
        self.port = free_port()
        arguments = ["--model-dir", str(model), "--cpu", "--port", str(self.port), "-l", level]
        arguments += ["--data-dir", str(tmp_path / "data"), "--threads", "1"]
        self.process = subprocess.Popen(
            [*wrapper, *BERTQ, "serve", *arguments],
            env=clean_environ(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def encode(self, requests: int = 1) -> None:
        """Send requests, each of which makes it print a line."""
        with BertClient(port=self.port, timeout=90) as client:
            for future in [client.encode_async(["the lord"]) for _ in range(requests)]:
                assert future.result().shape == (1, 32)

    def stop(self) -> int:
        """End it as an operator does; return its exit status."""
        self.process.terminate()
        return self.process.wait(40)


@pytest.fixture
def end() -> Iterator[list[Service]]:
    """Services that end with the test, together with their workers."""
    started: list[Service] = []
    yield started
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def test_a_closed_terminal(tiny_model: Path, tmp_path: Path, end: list[Service]) -> None:
    reading, terminal = pty.openpty()
    service = Service(tiny_model, tmp_path, terminal)
    end.append(service)
    os.close(terminal)
    service.encode()
    os.close(reading)
    service.encode(20)
    assert service.stop() == 0


def test_a_reader_that_has_stopped_reading(
    tiny_model: Path, tmp_path: Path, end: list[Service]
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    service = Service(tiny_model, tmp_path, writing)
    end.append(service)
    service.encode(1500)  # a line of 100 characters each: more than the buffer of a pipe
    assert service.stop() == 0
    os.close(reading)
    os.close(writing)


def test_a_disk_that_is_full(tiny_model: Path, tmp_path: Path, end: list[Service]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    service = Service(tiny_model, tmp_path, full)
    end.append(service)
    service.encode(3)
    assert service.stop() == 0
    os.close(full)


def test_nohup(tiny_model: Path, tmp_path: Path, end: list[Service]) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        service = Service(tiny_model, tmp_path, output.fileno(), "nohup")
    end.append(service)
    eventually(lambda: "ready " in log.read_text(), 60)
    service.process.send_signal(signal.SIGHUP)
    service.encode()
    assert "stopping" not in log.read_text()
    assert service.stop() == 0


def test_in_the_background_of_a_script(
    tiny_model: Path, tmp_path: Path, end: list[Service]
) -> None:
    # There a shell has SIGINT ignored.
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    service = Service(tiny_model, tmp_path, os.open(os.devnull, os.O_WRONLY), *ignoring)
    end.append(service)
    service.encode()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(40) == 0


def test_a_status_that_cannot_be_printed(redis_url: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*BERTQ, "status", "--redis-url", redis_url],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environ(),
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: [Errno 28] No space left on device\n"


def test_the_oldest_lines_are_dropped() -> None:
    reading, writing = os.pipe()
    voice = StatusOutput(writing)
    for number in range(20_000):
        voice.report("line", str(number))
    with os.fdopen(reading, "rb") as output:
        numbers = [int(output.readline().removeprefix(b"line        "))]
        while numbers[-1] != 19_999:
            numbers.append(int(output.readline().removeprefix(b"line        ")))
        assert numbers == sorted(set(numbers))
        assert 1000 <= len(numbers) < 15_000
        voice.close()
    os.close(writing)


def test_a_terminal_shows_the_steps_of_the_workers(
    tiny_model: Path, tmp_path: Path, end: list[Service]
) -> None:
    leader, follower = os.openpty()
    service = Service(tiny_model, tmp_path, follower, level="WARNING")
    end.append(service)
    text = b""
    while b"\nready " not in text.replace(b"\r\x1b[K", b"\n"):
        text += os.read(leader, 65536)
    assert service.stop() == 0
    os.close(follower)
    os.close(leader)
    steps = re.findall(rb"starting    \d+ s, cpu0: (starting TensorFlow|reading the model)", text)
    assert steps
    lines = [line for line in text.split(b"\n") if b"starting    " not in line]
    assert not any(b"loading: " in line for line in lines)


def test_progress_is_one_line_at_the_end_of_a_terminal() -> None:
    leader, follower = os.openpty()
    output = StatusOutput(follower)
    output.show_progress("1 s, cpu0: starting")
    output.report("flower", "http://x")
    output.show_progress("2 s, cpu0: " + "x" * 200)
    output.show_progress("")
    output.report("ready", "1 worker")
    output.close()
    text = os.read(leader, 65536).decode()
    os.close(leader)
    os.close(follower)
    clear = "\r\x1b[K"
    lines = text.replace("\r\n", "\n").split(clear)
    assert lines[0] == "starting    1 s, cpu0: starting"
    assert lines[1] == "flower      http://x\nstarting    1 s, cpu0: starting"
    assert lines[2].startswith("starting    2 s, cpu0: xxx")
    assert len(lines[2]) == 79
    assert lines[3:] == ["ready       1 worker\n"]


@pytest.mark.parametrize("as_json", [False, True])
def test_no_progress_in_a_file(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "output"
    with path.open("wb") as file:
        output = StatusOutput(file.fileno(), as_json=as_json)
        output.show_progress("1 s, cpu0: starting")
        output.close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (
            "[2026-11-28 06:18:04: INFO/MainProcess] loading: warming up, 2 of 4 (1 x 20 tokens)",
            "warming up, 2 of 4 (1 x 20 tokens)",
        ),
        ('{"level": "INFO", "message": "loading: building the graph"}', "building the graph"),
        ("[2026-11-28 06:18:04,844: INFO/MainProcess] chunk x: loading: y", None),
    ],
)
def test_the_steps_of_a_worker(line: str, step: str | None) -> None:
    assert worker_lines.find_step(line) == step
    assert worker_lines.is_shown(line, "WARNING") == (step is None)
    assert worker_lines.is_shown(line, "INFO")
