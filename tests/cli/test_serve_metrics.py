"""What ``bertq serve`` hands on to its workers to be watched: ports of metrics, JSON logs."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from bertq import BertClient
from bertq_cli.service import worker_lines
from bertq_cli.service.embedded_redis import free_port
from bertq_cli.service.output import StatusOutput
from tests.cli.runs import Run
from tests.workers.scrapes import Scrape

SECRET = "xylophone"


class Serve(Protocol):
    """Starts ``bertq serve``; its processes end with the test."""

    def __call__(self, *arguments: str, **variables: str) -> Run: ...


@pytest.fixture
def serve(tmp_path: Path, tiny_model: Path) -> Iterator[Serve]:
    runs: list[Run] = []
    data = tmp_path / "data"

    def start(*arguments: str, **variables: str) -> Run:
        model = ["--model-dir", str(tiny_model), "--cpu", "--data-dir", str(data)]
        runs.append(Run(tmp_path, "serve", *model, *arguments, **variables))
        return runs[-1]

    yield start
    for run in runs:
        run.end()


def free_ports(count: int) -> int:
    """Return the first of ``count`` consecutive free ports."""
    while True:
        first = free_port()
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


def objects(text: str) -> list[dict[str, Any]]:
    """Its lines, each a JSON object."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message", "pid"} <= set(entry) for entry in found)
    return found


def test_each_worker_has_a_port_and_all_lines_are_objects(serve: Serve) -> None:
    port, first = free_port(), free_ports(2)
    run = serve(
        "--num-workers", "2", "--port", str(port), "--metrics-port", str(first), "-l", "info",
        BERTQ_LOG_FORMAT="json",
    )  # fmt: skip
    run.wait_for("ready: 2 workers at redis://")
    with BertClient(port=port, timeout=60) as client:
        for queue in ("cpu0", "cpu1"):
            with BertClient(port=port, timeout=60, queue=queue) as one:
                one.encode([f"{SECRET} {number}" for number in range(30)])
        client.encode(["one more"])
    run.wait_for('"rows": 30,', times=2)
    scrapes = [Scrape(first), Scrape(first + 1)]
    assert sorted(scrape.labels("info")[0]["device"] for scrape in scrapes) == ["cpu0", "cpu1"]
    assert sum(scrape["sentences_total"] for scrape in scrapes) == 61
    os.killpg(run.process.pid, signal.SIGINT)
    status, output = run.wait()
    assert status == 0
    found = objects(output)
    messages = [entry["message"] for entry in found]
    for number in (0, 1):
        start = f"worker: cpu{number}: ready after "
        (line,) = [message for message in messages if message.startswith(start)]
        assert f", metrics at port {first + number}; " in line
    assert messages[-1] == "stopped: nothing is left running"
    assert {entry["node"].partition("@")[0] for entry in found if "node" in entry} == {
        "cpu0", "cpu1",
    }  # fmt: skip
    assert SECRET not in output
    assert run.left() == ({}, [])


def test_refusals_of_workers_are_parsed(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = ["--port", str(free_port()), "--metrics-port", str(taken)]
        status, output = serve(*ports, "--log-format", "json").wait()
    assert status == 1
    *lines, error = output.splitlines()
    assert error == (
        f"Error: worker cpu0 cannot start: port {taken} of 127.0.0.1 is taken: "
        "choose another port for metrics with --metrics-port"
    )
    assert objects("\n".join(lines))
    assert "this worker cannot start" not in output


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--metrics-port", "65535", "--num-workers", "2"], "there is no port 65536 for the last"),
        (
            ["--metrics-port", "7000", "--num-workers", "3", "--port", "7002"],
            "--metrics-port 7000: port 7002, of worker 3, is that of --port too: choose another",
        ),
        (["--log-format", "xml"], "--log-format is 'xml': it must be text or json"),
    ],
)
def test_impossible_values(serve: Serve, options: list[str], reason: str) -> None:
    port = [] if "--port" in options else ["--port", str(free_port())]
    status, output = serve(*port, *options).wait()
    assert status in (1, 2)
    assert reason in output


def test_lines_of_workers() -> None:
    refusal = {"message": "this worker cannot start: no model"}
    noise = {"message": "I0000 00:00:1795426487.1 1 port.cc:153] oneDNN"}
    for text in ("[2026: CRITICAL] this worker cannot start: no model", json.dumps(refusal)):
        assert not worker_lines.is_shown(text, "DEBUG")
        assert worker_lines.find_refusal(["before", text, "after"]) == "no model"
    for text in (noise["message"], json.dumps(noise)):
        assert not worker_lines.is_shown(text, "WARNING")
        assert worker_lines.is_shown(text, "INFO")
    for text in ("a warning", '{"message": "a warning"}', "{ no JSON", "[1]", "{}", '{"a": NaN}'):
        assert worker_lines.is_shown(text, "WARNING")
    assert worker_lines.find_refusal(["one", '{"message": "two"}']) == "one\ntwo"


def test_a_plain_line_becomes_an_object(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb") as file:
        voice = StatusOutput(file.fileno(), as_json=True)
        voice.report("redis", 'with "quotes" and \udcff')
        voice.report("cpu0", '{"message": "as it is"}')
        voice.close()
    first, second = path.read_text().splitlines()
    entry = json.loads(first)
    assert entry["message"] == 'redis: with "quotes" and \udcff'
    assert (entry["logger"], entry["pid"]) == ("bertq.serve", os.getpid())
    assert second == '{"message": "as it is"}'
