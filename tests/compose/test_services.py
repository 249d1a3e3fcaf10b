"""The command and the health check of each service, run as processes of this machine."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertq_cli.service.embedded_redis import find_binary, free_port
from tests.compose import stack
from tests.conftest import clean_environ
from tests.waiting import eventually

#: Stands in for the image's own client where none is installed.
CLIENT = """#!{python}
import os, sys
from redis import Redis
redis = Redis(port=int(os.environ["PORT"]), password=os.environ["REDISCLI_AUTH"])
redis.execute_command(sys.argv[1])
print("PONG")
"""


class Stack:
    """The services of the compose file on ports and in directories of this test."""

    def __init__(self, directory: Path, model: Path) -> None:
        self.directory = directory
        self.redis_port = free_port()
        self.variables = stack.filled(MODEL_DIR=str(model))
        document = stack.read(self.variables)
        self.services: dict[str, Any] = document["services"]
        self.ports = {"gateway": free_port(), "flower": free_port()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (directory / "data").mkdir()
        text = document["configs"]["redis"]["content"].replace("/data", str(directory / "data"))
        (directory / "valkey.conf").write_text(f"{text}port {self.redis_port}\nbind 127.0.0.1\n")
        self._make_programs(directory / "bin")

    def _make_programs(self, directory: Path) -> None:
        """Create the programs that the images have on their path."""
        directory.mkdir()
        (directory / "valkey-server").symlink_to(find_binary())
        client = directory / "valkey-cli"
        client.write_text(CLIENT.format(python=sys.executable))
        client.chmod(0o755)
        (directory / "python").symlink_to(sys.executable)
        for name in ("bertq", "celery"):
            found = Path(sys.executable).with_name(name)
            (directory / name).symlink_to(found if found.is_file() else str(shutil.which(name)))

    def environ(self, name: str) -> dict[str, str]:
        """The variables of a service, with the addresses and files of this test."""
        service = self.services[name]
        own = dict(service["environment"])
        if "BERTQ_REDIS_URL" in own:
            here = f"@127.0.0.1:{self.redis_port}/"
            own["BERTQ_REDIS_URL"] = own["BERTQ_REDIS_URL"].replace("@redis:6379/", here)
        if "BERTQ_MODEL_DIR" in own:
            own["BERTQ_MODEL_DIR"] = service["volumes"][0]["source"]
        for key in ("BERTQ_HTTP_PORT", "FLOWER_PORT"):
            if key in own:
                own[key] = str(self.ports[name])
        path = f"{self.directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**clean_environ(), **own, "PATH": path, "PORT": str(self.redis_port)}

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Run a service's command."""
        command = [
            part.replace("/etc/valkey.conf", str(self.directory / "valkey.conf"))
            # No login page for other machines while it is tested.
            .replace("0.0.0.0", "127.0.0.1")
            for part in self.services[name]["command"]
        ]
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environ(name), cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return self.processes[name]

    def is_healthy(self, name: str) -> bool:
        """Run a service's health check, as Docker does: by a shell or not."""
        kind, *test = self.services[name]["healthcheck"]["test"]
        command = ["/bin/sh", "-c", *test] if kind == "CMD-SHELL" else test
        done = subprocess.run(
            command, env=self.environ(name), cwd=self.directory, capture_output=True, check=False
        )
        return done.returncode == 0

    def start_healthy(self, name: str) -> None:
        """Start a service that is unhealthy so far, and wait until it is healthy."""
        assert not self.is_healthy(name)
        process = self.start(name)

        def up() -> bool:
            log = (self.directory / f"{name}.log").read_text()
            assert process.poll() is None, log
            return self.is_healthy(name)

        eventually(up, 60)

    def stop(self, name: str) -> int:
        """Stop a service as Docker does, check that it is unhealthy, and return its exit status."""
        self.processes[name].terminate()
        status = self.processes[name].wait(30)
        assert not self.is_healthy(name)
        return status

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def services(tmp_path: Path, tiny_model: Path) -> Iterator[Stack]:
    made = Stack(tmp_path, tiny_model)
    yield made
    made.end()


def ask(url: str, document: object = None, **headers: str) -> str:
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def test_all_services(services: Stack) -> None:
    for name in ("redis", "worker-cpu0", "gateway", "flower"):
        services.start_healthy(name)
    key = {"Authorization": f"Bearer {services.variables['HTTP_API_KEYS']}"}
    gateway = f"http://127.0.0.1:{services.ports['gateway']}"
    (model,) = json.loads(ask(f"{gateway}/v1/models", **key))["data"]
    answer = ask(f"{gateway}/v1/embeddings", {"model": model["id"], "input": ["the lord"]}, **key)
    assert len(json.loads(answer)["data"][0]["embedding"]) == 32
    login = b64encode(services.variables["FLOWER_LOGIN"].encode()).decode()
    workers = f"http://127.0.0.1:{services.ports['flower']}/workers"
    eventually(lambda: "cpu0@" in ask(workers, Authorization=f"Basic {login}"), 30)
    for name in ("flower", "gateway", "worker-cpu0", "redis"):
        assert services.stop(name) == 0, (services.directory / f"{name}.log").read_text()
    # The data directory of the queue.
    assert list((services.directory / "data" / "appendonlydir").iterdir())


@pytest.mark.parametrize("number", [3])
def test_a_worker_of_a_gpu(services: Stack, number: int) -> None:
    """The worker looks for the GPU of its queue; without one it logs so."""
    services.start_healthy("redis")
    name = f"worker-gpu{number}"
    services.start_healthy(name)
    log = (services.directory / f"{name}.log").read_text()
    assert f"queue gpu{number}: CUDA_VISIBLE_DEVICES={number}" in log
    assert services.stop(name) == 0
