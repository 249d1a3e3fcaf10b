"""``bertq http`` as a user runs it."""

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from bertq_cli.service.embedded_redis import free_port
from tests.cli.runs import Run
from tests.client.stub import rows, stub_worker

KEY = "a-key-of-sixteen"


class Http(Protocol):
    """Starts ``bertq http``; it ends with the test."""

    def __call__(self, *arguments: str, **variables: str) -> Run: ...


@pytest.fixture
def http(tmp_path: Path, redis_url: str) -> Iterator[Http]:
    runs: list[Run] = []

    def start(*arguments: str, **variables: str) -> Run:
        run = Run(tmp_path, "http", *arguments, **{"BERTQ_REDIS_URL": redis_url, **variables})
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.end()


def test_it_serves_and_stops(http: Http, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    keys = tmp_path / "keys"
    keys.write_text(f"# ours\n{KEY}\n")
    run = http("--port", str(port), "--api-key-file", str(keys))
    run.wait_for("http ")
    assert run.output == f"http        http://127.0.0.1:{port}, 1 API key, redis {redis_url}\n"
    body = json.dumps({"id": 1, "texts": ["secret"]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/encode", body, headers)
    with stub_worker(redis_url), urllib.request.urlopen(request, timeout=20) as answer:
        assert json.load(answer)["result"] == rows(["secret"]).tolist()
    run.process.send_signal(signal.SIGTERM)
    status, output = run.wait(20)
    assert status == 0, output
    assert output.count("\n") == 1  # no request is logged
    assert KEY not in output


def test_a_line_of_the_log_has_one_severity(http: Http) -> None:
    port = free_port()
    run = http("--port", str(port), BERTQ_REDIS_URL="redis://127.0.0.1:1/0")
    run.wait_for("http ")
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=20)
    run.wait_for("\nError: requests fail (redis_unavailable): ")


def test_ctrl_c(http: Http) -> None:
    run = http("--port", str(free_port()))
    run.wait_for("http ")
    run.process.send_signal(signal.SIGINT)
    status, output = run.wait(20)
    assert status == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "variables", "reason"),
    [
        (["--host", "0.0.0.0"], {}, "--host 0.0.0.0 accepts other machines, and needs an API key"),
        (["--host", "192.0.2.1"], {"BERTQ_HTTP_API_KEYS": KEY}, "--host 192.0.2.1 --port"),
        ([], {"BERTQ_HTTP_API_KEYS": "short"}, "BERTQ_HTTP_API_KEYS has a key of fewer than 16"),
        (["--alias", "x"], {}, "--alias is 'x': it must be NAME=MODEL"),
        ([], {"BERTQ_REDIS_URL": "http://x"}, "--redis-url"),
        (["--api-key-file", "{empty}"], {}, "has no key"),
        (["--api-key-file", "{binary}"], {}, "cannot be read"),
        (["--api-key-file", "{none}"], {}, "does not exist"),
        (["--max-batch", "0"], {}, "--max-batch"),
        (["--batch-dir", "{empty}"], {}, "--batch-dir"),
        (["--batch-dir", ""], {}, "'--batch-dir': the path is empty"),
        ([], {"BERTQ_HTTP_BATCH_DIR": "/proc/none"}, "--batch-dir /proc/none: "),
    ],
)
def test_refused_options(
    http: Http, tmp_path: Path, arguments: list[str], variables: dict[str, str], reason: str
) -> None:
    files = {name: tmp_path / name for name in ("empty", "binary", "none")}
    files["empty"].write_text("# nothing\n")
    files["binary"].write_bytes(b"\xff\xfe\x00")
    run = http(*(argument.format(**files) for argument in arguments), **variables)
    status, output = run.wait(20)
    assert status in (1, 2), output
    last = output.splitlines()[-1]
    assert last.startswith("Error: ")
    assert reason in last
    assert "Traceback" not in output


def test_a_port_that_is_taken(http: Http) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, output = http("--port", str(port)).wait(20)
    assert status == 1
    assert output == f"Error: --host 127.0.0.1 --port {port}: Address already in use\n"
