"""``bertq serve`` as a user runs it: real server, real workers, a tiny model."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import trustme
from redis import Redis
from redis.exceptions import AuthenticationError

from bertq import BertClient
from bertq.state import worker_info
from bertq_cli.service.embedded_redis import free_port
from tests.cli.runs import Run
from tests.waiting import eventually


class Serve(Protocol):
    """Starts ``bertq serve``; its processes end with the test."""

    def __call__(self, *arguments: str, **variables: str) -> Run: ...


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    runs: list[Run] = []

    def start(*arguments: str, **variables: str) -> Run:
        runs.append(Run(tmp_path, "serve", *arguments, **variables))
        return runs[-1]

    yield start
    for run in runs:
        run.end()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def options(tmp_path: Path, tiny_model: Path, port: int) -> list[str]:
    """A tiny model on one CPU worker, and an embedded Redis on a free port."""
    data = tmp_path / "data"
    return ["--model-dir", str(tiny_model), "--cpu", "--port", str(port), "--data-dir", str(data)]


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def encode(port: int, count: int = 40) -> None:
    """Encode sentences and check that each has a different row."""
    with BertClient(port=port, timeout=60) as client:
        rows = client.encode([f"the lord {number}" for number in range(count)])
    assert rows.shape == (count, 32)
    assert len(np.unique(rows, axis=0)) == count


def server_pid(port: int) -> int:
    """The process id of the embedded server; its process title hides the mark of the run."""
    with Redis.from_url(url(port)) as redis:
        found: Any = redis.info("server")
        return int(found["process_id"])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_service_with_two_workers_a_dashboard_and_a_gateway(
    serve: Serve, options: list[str], port: int, tmp_path: Path
) -> None:
    flower, http = free_port(), free_port()
    run = serve(
        *options, "--num-workers", "2", "--flower", str(flower), "--http-port", str(http),
        "--batch-dir", str(tmp_path / "batches"),
    )  # fmt: skip
    run.wait_for("\nready ")
    lines = run.output.splitlines()
    assert f"http        http://127.0.0.1:{http}, its manual at /docs" in lines
    assert re.fullmatch(rf"redis       embedded, {url(port)}, data in .*/data", lines[0])
    kinds = sorted(line.split()[0] for line in lines[1:5])
    assert kinds == ["flower", "http", "worker", "worker"]
    shown = (
        r"worker      cpu[01]: ready after \d+\.\d s, tiny\d* on cpu, \d+ threads?, pid \d+; "
        r"REDUCE_MEAN of layer -2, 25 tokens \(from bert-as-service\), float32"
    )
    assert sum(bool(re.fullmatch(shown, line)) for line in lines) == 2, lines
    assert lines[-1] == f"ready       2 workers at {url(port)}"
    # The cores are shared out.
    threads = 0
    for queue in ("cpu0", "cpu1"):
        environ = Path(f"/proc/{run.find('celery', queue)}/environ").read_text()
        threads += int(environ.partition("BERTQ_THREADS=")[2].partition("\0")[0])
    assert threads == max(2, len(os.sched_getaffinity(0)))
    encode(port, 600)
    with urllib.request.urlopen(f"http://127.0.0.1:{flower}/workers", timeout=20) as page:
        assert b"cpu1@" in page.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{http}/readyz", timeout=20) as page:
        assert page.read().startswith(b"ready: ")
    with urllib.request.urlopen(f"http://127.0.0.1:{http}/v1/files", timeout=20) as page:
        assert json.load(page)["data"] == []
    # Ctrl-C reaches the whole group of the terminal.
    os.killpg(run.process.pid, signal.SIGINT)
    status, output = run.wait()
    assert status == 0, output
    assert output.endswith("stopped     nothing is left running\n")
    assert "Traceback" not in output
    assert run.left() == ({}, [])
    assert is_free(port)


def test_checks_of_its_own_use_no_proxy_and_follow_the_settings_of_flower_and_the_gateway(
    serve: Serve, options: list[str], tmp_path: Path
) -> None:
    flower, http = free_port(), free_port()
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    (tmp_path / "flowerconfig.py").write_text("url_prefix = '/jobs'\n")
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "gateway.pem")
    run = serve(
        *options, "--flower", str(flower), "--http-port", str(http), **proxies,
        BERTQ_HTTP_CERTFILE=str(tmp_path / "gateway.pem"),
        FLOWER_UNIX_SOCKET=str(tmp_path / "flower.sock"),
    )  # fmt: skip
    run.wait_for("\nready ")
    assert f"flower      http://127.0.0.1:{flower}/jobs\n" in run.output
    assert f"http        https://127.0.0.1:{http}, its manual at /docs\n" in run.output
    run.process.terminate()
    assert run.wait()[0] == 0


def test_the_dashboard_with_tls(serve: Serve, options: list[str], tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "flower.pem")
    variables = dict.fromkeys(("FLOWER_CERTFILE", "FLOWER_KEYFILE"), str(tmp_path / "flower.pem"))
    flower = free_port()
    run = serve(*options, "--flower", str(flower), FLOWER_URL_PREFIX="/jobs/", **variables)
    run.wait_for("\nready ")
    assert f"flower      https://127.0.0.1:{flower}/jobs\n" in run.output
    run.process.terminate()
    assert run.wait()[0] == 0


def test_workers_of_a_named_model_that_share_a_device(
    serve: Serve, options: list[str], port: int
) -> None:
    options.remove("--cpu")
    more = ["--device-map", "0", "--num-workers", "2", "--gpu-memory-fraction", "0.4"]
    more += ["--model-name", "news", "--uncased", "--threads", "1"]
    run = serve(*options, *more, BERTQ_SHOW_TOKENS_TO_CLIENT="off", BERTQ_CASED="1")
    run.wait_for("\nready ")
    assert f"ready       2 workers at {url(port)}, model news\n" in run.output
    assert all(f"worker      {name}: ready after" in run.output for name in ("gpu0", "gpu0.2"))
    with Redis.from_url(url(port)) as redis:
        found = worker_info.read(redis)
    host = socket.gethostname()
    assert [info.node for info in found] == [f"gpu0-news@{host}", f"gpu0.2-news@{host}"]
    for info in found:
        assert (info.model_name, info.device) == ("news", "gpu0")
        assert info.queues == ["bertq.news", "bertq.news.gpu0", "bertq.news.small"]
        environ = Path(f"/proc/{info.pid}/environ").read_text().split("\0")
        assert {"BERTQ_CASED=false", "BERTQ_SHOW_TOKENS_TO_CLIENT=off"} <= set(environ)
        assert "BERTQ_GPU_MEMORY_FRACTION=0.4" in environ
    # The workers have different names.
    assert "give each its own with -n" not in run.output
    run.process.terminate()
    assert run.wait()[0] == 0


def test_killed_processes_are_restarted(serve: Serve, options: list[str], port: int) -> None:
    run = serve(*options)
    run.wait_for("\nready ")
    first = run.find("celery", "cpu0")
    os.kill(first, signal.SIGKILL)
    run.wait_for("worker      cpu0: ended by SIGKILL, starting again in 1 s")
    run.wait_for("cpu0: ready after", times=2)
    assert run.find("celery", "cpu0") != first
    encode(port)
    # The server is restarted with its data, and workers reconnect.
    with Redis.from_url(url(port)) as redis:
        redis.set("kept", "yes")
        eventually(lambda: redis.info("persistence")["aof_pending_bio_fsync"] == 0)
    os.kill(server_pid(port), signal.SIGKILL)
    run.wait_for("redis       redis: ended by SIGKILL, starting again in 1 s")
    run.wait_for("redis       embedded", times=2)
    with Redis.from_url(url(port)) as redis:
        assert redis.get("kept") == b"yes"
    encode(port)
    run.process.terminate()
    status, output = run.wait()
    assert status == 0, output
    assert "Traceback" not in output
    assert re.search("^cpu0 .*Connection to broker lost", output, re.MULTILINE), output
    assert run.left() == ({}, [])


def test_a_killed_service_leaves_no_process_and_loses_no_data(
    serve: Serve, options: list[str], port: int
) -> None:
    run = serve(*options, "--flower", str(free_port()))
    run.wait_for("\nready ")
    with BertClient(port=port) as client, Redis.from_url(url(port)) as redis:
        # A chunk on a queue without workers must outlive the service.
        other = BertClient(port=port, queue="cpu7")
        other.encode_async(["the lord"])
        eventually(lambda: redis.llen("cpu7") == 1)
        assert client.server_config
    server = server_pid(port)
    run.process.kill()
    eventually(lambda: not run.processes() and not Path(f"/proc/{server}").exists(), 20)
    assert is_free(port)
    second = serve(*options)
    second.wait_for("\nready ")
    with Redis.from_url(url(port)) as redis:
        assert redis.llen("cpu7") == 1
    other.close()
    second.process.send_signal(signal.SIGTERM)
    assert second.wait()[0] == 0


def test_a_worker_that_cannot_be_restarted(
    serve: Serve, options: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    run = serve(*options, "--model-dir", str(model))
    run.wait_for("\nready ")
    (model / "vocab.txt").unlink()
    os.kill(run.find("celery", "cpu0"), signal.SIGKILL)
    status, output = run.wait()
    assert status == 1
    assert re.search(r"\nError: worker cpu0 cannot start: .*vocab.txt.*\n$", output), output
    assert run.left() == ({}, [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_while_it_starts(serve: Serve, options: list[str], number: int, port: int) -> None:
    run = serve(*options)
    run.wait_for("redis ")
    run.process.send_signal(number)
    status, output = run.wait()
    assert status == 0, output
    assert "Traceback" not in output
    assert run.left() == ({}, [])
    assert is_free(port)


def test_a_second_signal_ends_a_worker_that_hangs(serve: Serve, options: list[str]) -> None:
    run = serve(*options)
    run.wait_for("\nready ")
    os.kill(run.find("celery", "cpu0"), signal.SIGSTOP)
    run.process.send_signal(signal.SIGINT)
    run.wait_for("stopping ")
    assert run.find("celery", "cpu0")
    run.process.send_signal(signal.SIGINT)
    status, output = run.wait(20)
    assert status == 0, output
    assert run.left() == ({}, [])


def test_a_password(serve: Serve, options: list[str], port: int) -> None:
    secret = "x y#\"'\\/@%ü"
    run = serve(*options, "--host", "0.0.0.0", BERTQ_REDIS_PASSWORD=secret)
    run.wait_for("\nready ")
    assert f"redis://:**@{socket.gethostname()}:{port}/0" in run.output
    assert secret not in run.output
    assert all("x%20y" not in line and secret not in line for line in run.processes().values())
    with Redis(port=port, password=secret) as redis:
        assert redis.ping()
        assert len(worker_info.read(redis)) == 1
    with Redis(port=port) as redis, pytest.raises(AuthenticationError):
        redis.ping()
    run.process.terminate()
    assert run.wait()[0] == 0


def test_a_running_redis(serve: Serve, tiny_model: Path, redis_url: str) -> None:
    run = serve("--cpu", BERTQ_MODEL_DIR=str(tiny_model), BERTQ_REDIS_URL=redis_url)
    run.wait_for("\nready ")
    assert f"redis       {redis_url}, as given" in run.output
    assert "embedded" not in run.output
    with Redis.from_url(redis_url) as redis:
        assert len(worker_info.read(redis)) == 1
        run.process.terminate()
        assert run.wait()[0] == 0
        assert worker_info.read(redis) == []
        assert redis.ping()


def refusal(run: Run) -> str:
    """Return the line of the error; check that no process is left."""
    status, output = run.wait()
    assert status in (1, 2), output
    assert "Traceback" not in output
    assert output.count("cannot start") <= 1, output
    assert run.left() == ({}, [])
    return output.splitlines()[-1]


def test_a_port_that_is_taken(serve: Serve, options: list[str], port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        line = refusal(serve(*options))
        assert line.startswith(f"Error: port {port} of 127.0.0.1 is taken: choose another with")
        ports = ["--port", str(free_port()), "--flower", str(port)]
        both = ["--port", ports[1], "--flower", ports[1]]
        assert "Error: --flower and --port are both" in refusal(serve(*options, *both))
        line = refusal(serve(*options, *ports))
        assert re.fullmatch(rf"Error: port {port} of 127.0.0.1 is taken.*--flower", line), line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model-dir", "/no/such/model"], r"^Error: worker cpu\d cannot start: no such model"),
        (["--max-seq-len", "2"], r"^Error: Invalid value for '--max-seq-len': .*'2'"),
        (
            ["--max-seq-len", "60"],
            r"^Error: worker cpu\d cannot start: --max-seq-len is 60: give 3",
        ),
        (
            ["--host", "0.0.0.0"],
            r"^Error: --host 0.0.0.0 is open .* BERTQ_REDIS_PASSWORD or --pass",
        ),
        (["--host", "192.0.2.1", "--password", "x"], r"192.0.2.1 cannot be used, Cannot assign"),
        (["--host", "no.such.host.invalid", "--password", "x"], r"^Error: --host no.such.host"),
        (["--host", "x" * 70, "--password", "x"], r"^Error: --host x+: not a host name"),
        (["--password", "\udcff"], r"^Error: the host and the password must be printable text"),
        (["--num-workers", "0"], r"^Error: Invalid value for '--num-workers'"),
        (["--batch-dir", ""], r"'--batch-dir': the path is empty"),
        (["--device-map", "0"], r"^Error: --device-map names GPUs, and --cpu uses none"),
        (["--device-map", "0,,1"], r"^Error: Invalid value for '--device-map': '0,,1': give num"),
        (["--model-name", "a.b"], r"^Error: Invalid value for '--model-name': .*'a.b'"),
        (["--redis-url", "nonsense"], r"^Error: --redis-url is 'nonsense': it must be redis://"),
        (
            ["--redis-url", "redis://h"],
            r"^Error: --port is for the embedded Redis, and --redis-url",
        ),
        (
            ["--batch-dir", "b"],
            r"^Error: --batch-dir is for the gateway, .* --http-port PORT: give",
        ),
        (
            ["--data-dir", "/dev/null/x"],
            r"^Error: data directory /dev/null/x cannot be used: Not a directory; give another",
        ),
        (
            ["--data-dir", "/dev/null"],
            r"^Error: data directory /dev/null cannot be used: it is not a directory; give another",
        ),
    ],
)
def test_a_mistake_in_the_options_is_one_line(
    serve: Serve, options: list[str], arguments: list[str], reason: str
) -> None:
    line = refusal(serve(*options, "--num-workers", "2", *arguments))
    assert re.search(reason, line), line


def test_without_a_model(serve: Serve) -> None:
    line = refusal(serve("--cpu"))
    assert line.startswith(
        "Error: no model: give --model-dir DIR (or BERTQ_MODEL_DIR), --model NAME"
    )


def test_a_variable_that_cannot_be_used(serve: Serve) -> None:
    line = refusal(serve("--cpu", BERTQ_MASK_CLS_SEP="maybe"))
    assert line.startswith("Error: BERTQ_MASK_CLS_SEP is 'maybe': it must be 1, true, yes or on")


def test_no_redis_at_the_url(serve: Serve, tiny_model: Path) -> None:
    url = "redis://:hidden@127.0.0.1:1/0"
    line = refusal(serve("--cpu", "--model-dir", str(tiny_model), "--redis-url", url))
    assert "worker cpu0 cannot start: Redis at redis://:**@127.0.0.1:1/0 cannot be reached" in line


def test_a_data_directory_in_use_is_refused(serve: Serve, options: list[str]) -> None:
    run = serve(*options)
    run.wait_for("redis ")
    line = refusal(serve(*options, "--port", str(free_port())))
    assert line.endswith("/data is in use by another bertq: choose one with --data-dir")
    run.process.terminate()
    assert run.wait()[0] == 0


def test_a_disk_that_is_full(serve: Serve, options: list[str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        (disk / "filler").write_bytes(bytes(60 * 1024))
        line = refusal(serve(*options, "--data-dir", str(disk / "data")))
        assert re.fullmatch("Error: redis cannot start: .*No space left on device", line), line
    finally:
        subprocess.run(["umount", str(disk)], check=True)
