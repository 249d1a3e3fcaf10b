"""The Flower dashboard: it shows chunks but no text, and only to users with a login."""

import http.client
import re
import shutil
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertq import BertClient
from bertq_cli.service.embedded_redis import free_port
from tests.conftest import clean_environ
from tests.waiting import eventually
from tests.workers.standins import Start

CHROMIUM = shutil.which("chromium")
SECRET = "mysecret"


Flower = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def flower(redis_url: str, tmp_path: Path) -> Iterator[Flower]:
    """Starts ``celery -A bertq flower`` with options; it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def run(*options: str, **variables: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "celery", "-A", "bertq", "flower", *options]
        started.append(
            subprocess.Popen(
                command,
                cwd=tmp_path,
                env=clean_environ() | {"BERTQ_REDIS_URL": redis_url, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.terminate()
        process.communicate(timeout=20)


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Fetch a page; return its status and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def wait_for(port: int) -> None:
    """Wait until it answers."""

    def answers() -> bool:
        try:
            return get(port, "/healthcheck")[1] == "OK"
        except OSError:
            return False

    eventually(answers, 40)


def listens_on(process: "subprocess.Popen[str]", port: int) -> set[str]:
    """The addresses on which a process listens, as the kernel writes them."""
    table = Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in table]
    return {f[1].split(":")[0] for f in fields if f[3] == "0A" and f[1].endswith(f":{port:04X}")}


def test_the_dashboard_shows_chunks_without_texts(
    redis_url: str, start: Start, flower: Flower
) -> None:
    port = free_port()
    process = flower(f"--port={port}")
    wait_for(port)
    assert listens_on(process, port) == {"0100007F"}  # 127.0.0.1
    start(1, "-Q", "gpu0", "-n", "gpu0@here")
    with BertClient(redis_url=redis_url, timeout=30) as client:
        future = client.encode_async([f"{SECRET} {number}" for number in range(600)])
        future.result()
        job = client.submit([f"{SECRET} kept"])
        job.result(20)

    def table() -> str:
        # The request with which the page loads its rows.
        asked = "draw=1&start=0&length=20&search[value]=&order[0][column]=0&order[0][dir]=asc"
        columns = "&columns[0][data]=name"
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/tasks/datatable", f"{asked}{columns}".encode()
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())

    eventually(lambda: table().count('"SUCCESS"') == 4, 30)
    rows = table()
    assert rows.count('"bertq.encode"') == 4
    assert "gpu0@here" in rows
    assert re.search(r'"runtime": "?\d', rows)
    _, workers = get(port, "/workers")
    assert "gpu0@here" in workers
    _, task = get(port, f"/task/{job.id}-0")
    assert "rows 1 x 4, float32" in task
    _, worker = get(port, "/worker/gpu0@here")
    assert "bertq.small" in worker
    for page in (rows, workers, task, worker):
        assert SECRET not in page


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_in_a_browser(redis_url: str, start: Start, flower: Flower, tmp_path: Path) -> None:
    port = free_port()
    flower(f"--port={port}")
    wait_for(port)
    start(1, "-Q", "gpu0", "-n", "gpu0@here")
    with BertClient(redis_url=redis_url, timeout=30) as client:
        client.encode([f"{SECRET} {number}" for number in range(600)])
        for number in range(2):  # chunks of groups, which run without Celery's trace
            client.encode([f"{SECRET} {number}"])

    def page(path: str) -> str:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000"]
        command = [str(CHROMIUM), *options, f"--user-data-dir={tmp_path}/chromium"]
        shown = subprocess.run(
            [*command, "--dump-dom", f"http://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return shown.stdout

    # Each chunk has its state, the time at which it was received, and its runtime.
    row = re.compile(r"bertq\.encode</a>.*?>SUCCESS<.*?<time datetime=\"20.*?> *[\d.]+ m?s<")
    eventually(lambda: len(row.findall(page("/tasks"))) == 5, 60)
    tasks, workers = page("/tasks"), page("/workers")
    assert re.search(r"gpu0@here.*?Online", workers, re.DOTALL)
    assert SECRET not in tasks + workers


def test_other_addresses_need_a_login(flower: Flower, tmp_path: Path) -> None:
    for options, variables in (
        (["--address=0.0.0.0"], {}),
        (["--address="], {}),
        ([], {"FLOWER_ADDRESS": "192.0.2.1"}),
        (["--address=example.org"], {}),
    ):
        refused = flower(*options, **variables)
        output, _ = refused.communicate(timeout=40)
        assert refused.returncode == 78
        assert output.startswith("Error: --address=")
        assert output.count("\n") == 1
    (tmp_path / "flowerconfig.py").write_text("address = '0.0.0.0'\n")
    refused = flower()
    assert "is open to other machines" in refused.communicate(timeout=40)[0]


@pytest.mark.parametrize("how", ["option", "file"])
def test_a_login(flower: Flower, tmp_path: Path, how: str) -> None:
    port = free_port()
    options = [f"--port={port}", "--address=0.0.0.0"]
    if how == "option":
        options.append("--basic-auth=me:word")
    else:
        (tmp_path / "flowerconfig.py").write_text("basic_auth = ['me:word']\n")
    process = flower(*options)
    wait_for(port)
    assert listens_on(process, port) == {"00000000"}
    assert get(port, "/workers")[0] == 401
    login = b64encode(b"me:word").decode()
    assert get(port, "/workers", Authorization=f"Basic {login}")[0] == 200
