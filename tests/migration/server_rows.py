"""Rows of the commands, and of how a service is run."""

import json
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from redis import Redis

import bertq as package
from bertq import BertClient
from bertq.config.settings import Settings
from bertq_cli.bench.command import bench
from bertq_cli.commands.serve import plan, serve
from bertq_cli.service.embedded_redis import free_port
from tests.cli.runs import Run
from tests.migration.deployment import TEXTS, Deployment, bertq, reference, run
from tests.migration.model_rows import close
from tests.migration.rows import row, row_each
from tests.waiting import eventually

#: The row that ends the service.
LAST = "bert-serving-terminate -port 5555"

_FILE = """
import sys
from bertq import BertClient

with BertClient(port=int(sys.argv[1]), timeout=60) as bc:
    print(bc.encode(["First do it", "then do it right"]).shape)
assert not {"tensorflow", "tokenizers"} & set(sys.modules)
"""


def queues(*options: str) -> list[str]:
    """Return the queue of each worker that ``bertq serve`` would start."""
    given = ["--model-dir", "model", "--redis-url", "redis://127.0.0.1:6379/0", *options]
    with ExitStack() as stack, serve.make_context("serve", given) as context:
        return plan(context.params, stack).queues


@row(
    "client.py, one file to copy",
    "from bert_serving.client import BertClient",
    "port=5555",
    "-port 5555",
)
def the_client_as_a_program(deployment: Deployment) -> None:
    done = run(sys.executable, "-c", _FILE, str(deployment.port))
    assert (done.returncode, done.stdout) == (0, "(2, 32)\n"), done.stderr
    (port,) = (option for option in serve.params if option.name == "port")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BERTQ_REDIS_URL", raising=False)
        assert port.default == BertClient().status["port"] == 6379


@row("python app.py -model_dir DIR", "bert-serving-start", "-num_worker 1", "-device_map")
def the_service(deployment: Deployment) -> None:
    assert "ready       2 workers at " in deployment.service.output
    found = deployment.infos()
    assert {name: found[name].device for name in found} == {
        "cpu0-tuned": "cpu0", "cpu1-tokens": "cpu1", "gpu0": "gpu0", "gpu0.2": "gpu0",
    }  # fmt: skip
    assert queues() == ["gpu0"]
    assert queues("--num-workers", "3", "--device-map", "0,2") == ["gpu0", "gpu2", "gpu0"]
    assert queues("--num-workers", "1", "--device-map", "3,2") == ["gpu3"]
    with deployment.client() as client:
        close(client.encode(TEXTS), reference(TEXTS, 25).rows("REDUCE_MEAN", [-2]))
        assert client.server_status["num_worker"] == 4


@row("-cpu")
def on_the_cpu(deployment: Deployment) -> None:
    assert deployment.infos()["cpu0-tuned"].device_name == "cpu"
    assert "queue cpu0: " in deployment.tuned.log
    assert queues("--num-workers", "2", "--cpu") == ["cpu0", "cpu1"]
    with deployment.client(model="tokens", queue="cpu1") as client:
        assert client.encode(TEXTS).shape == (3, 7, 64)


@row("-gpu_memory_fraction 0.5")
def memory(deployment: Deployment) -> None:
    info = deployment.infos()["gpu0"]
    environ = Path(f"/proc/{info.pid}/environ").read_text().split("\0")
    assert "BERTQ_GPU_MEMORY_FRACTION=0.5" in environ
    assert Settings().gpu_memory_fraction is None
    result = CliRunner().invoke(serve, ["--gpu-memory-fraction", "1.5"])
    assert result.exit_code == 2
    assert "Invalid value for '--gpu-memory-fraction'" in result.output


@row("-max_batch_size 256")
def batches(deployment: Deployment) -> None:
    found = deployment.infos()
    assert (found["gpu0"].max_batch_size, found["cpu0-tuned"].max_batch_size) == (256, 4)
    texts = [f"the lord {number}" for number in range(10)]
    with deployment.client(model="tuned") as client:
        rows = client.encode(texts)
        alone = np.concatenate([client.encode([text]) for text in texts])
    close(rows, alone, 2e-3)
    deployment.tuned.wait_for_log(" rows, ")
    sizes = [int(size) for size in re.findall(r"chunk \w+-\d+: (\d+) rows", deployment.tuned.log)]
    assert max(sizes) <= 4


@row("-priority_batch_size 16")
def small_requests_first(deployment: Deployment) -> None:
    assert Settings().priority_batch_size == 16
    # No worker serves this model, so the requests stay on their queues.
    with deployment.client(model="nobody") as client, Redis.from_url(deployment.url) as redis:
        few = client.encode_async(["the lord"] * 16)
        many = client.encode_async(["the lord"] * 17)
        eventually(lambda: redis.llen("bertq.nobody.small") == redis.llen("bertq.nobody") == 1)
        for future in (few, many):
            assert future.cancel()
    # The worker that has another number for it computes both.
    with deployment.client(model="tuned") as client:
        assert client.encode([f"the {number}" for number in range(17)]).shape == (17, 3)


def send(url: str, path: str, **document: Any) -> Any:
    """Send a request to a gateway without bertq."""
    request = urllib.request.Request(
        url + path,
        json.dumps(document).encode() if document else None,
        {"Content-Type": "application/json", "Origin": "https://example.org"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer), answer.headers


@row("-http_port")
def the_gateway(deployment: Deployment) -> None:
    url = f"http://127.0.0.1:{deployment.http}"
    found, headers = send(url, "/encode", id=123, texts=TEXTS, is_tokenized=False)
    assert (found["id"], found["status"]) == (123, 200)
    with deployment.client() as client:
        close(np.array(found["result"]), client.encode(TEXTS), 1e-6)
    assert send(url, "/status/server")[0]["num_worker"] == 4
    (labels,) = send(url, "/encode", model="tuned", texts=["the lord"])[0]["result"]
    assert len(labels) == 3
    assert "access-control-allow-origin" not in headers


@row_each("-http_max_connect 10", "-cors *")
def a_gateway_of_its_own(deployment: Deployment, _cell: str) -> None:
    port = free_port()
    options = (
        "--redis-url",
        deployment.url,
        "--port",
        str(port),
        "--max-requests",
        "1",
        "--cors",
        "*",
    )
    gateway = Run(deployment.home, "http", *options)
    try:
        gateway.wait_for("http ")
        url = f"http://127.0.0.1:{port}"
        found, headers = send(url, "/encode", id=1, texts=TEXTS)
        assert len(found["result"]) == 3
        assert headers["access-control-allow-origin"] == "*"
        # One that is not at its end yet has the only place.
        with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
            slow.sendall(b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            eventually(lambda: refused_for_now(url))
    finally:
        gateway.end()


def refused_for_now(url: str) -> bool:
    try:
        send(url, "/encode", id=1, texts=TEXTS)
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 429 and "Retry-After" in error.headers
    return False


@row("-http_stat_dashboard")
def the_dashboard(deployment: Deployment) -> None:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{deployment.flower}/workers", timeout=20
    ) as page:
        assert b"gpu0@" in page.read()
    shown = bertq("status", "--redis-url", deployment.url)
    assert shown.returncode == 0, shown.stderr
    assert "gpu0.2@" in shown.stdout


@row("-verbose")
def debug_lines(deployment: Deployment) -> None:
    assert ": DEBUG/MainProcess]" in deployment.tuned.log
    assert ": DEBUG/MainProcess]" not in deployment.tokens.log


@row("-version")
def version(_deployment: Deployment) -> None:
    assert bertq("--version").stdout == f"bertq, version {package.__version__}\n"


@row("bert-serving-benchmark")
def benchmark(_deployment: Deployment) -> None:
    shown = CliRunner().invoke(bench, ["--help"]).output
    for table in ("--max-seq-len", "--client-batch-size", "--num-client", "--max-batch-size"):
        assert table in shown


@row(LAST)
def the_end(deployment: Deployment) -> None:
    for process in (deployment.tuned.process, deployment.tokens.process):
        process.send_signal(signal.SIGTERM)
    assert [worker.process.wait(30) for worker in (deployment.tuned, deployment.tokens)] == [0, 0]
    deployment.service.process.send_signal(signal.SIGTERM)
    status, output = deployment.service.wait()
    assert status == 0, output
    assert output.endswith("stopped     nothing is left running\n")
    assert deployment.service.left() == ({}, [])
    assert (deployment.home / "data").is_dir()
