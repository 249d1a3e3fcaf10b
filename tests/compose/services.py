"""The services of the compose file, run as processes of this machine."""

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertq_cli.service.embedded_redis import find_binary, free_port
from tests.compose import stack
from tests.conftest import clean_environ
from tests.waiting import eventually

#: Stands in for valkey-cli, which the package with the server lacks.
CLIENT = """#!{python}
import os, sys
from redis import Redis
redis = Redis(port=int(os.environ["PORT"]), password=os.environ["REDISCLI_AUTH"])
redis.execute_command(sys.argv[1])
print("PONG")
"""


class Services(ABC):
    """Starts, checks and stops the services of the compose file."""

    redis_port = 6379
    gateway_port = 8125
    flower_port = 5555

    def __init__(self, directory: Path, model: Path) -> None:
        self.directory = directory
        self.variables = stack.filled(MODEL_DIR=str(model))
        self.services: dict[str, Any] = stack.read(self.variables)["services"]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @abstractmethod
    def command(self, name: str) -> list[str]:
        """Return the command that runs a service until it is stopped."""

    @abstractmethod
    def command_inside(self, name: str, command: list[str]) -> list[str]:
        """Return what runs ``command`` beside a service, as its user and with its variables."""

    @abstractmethod
    def environ(self, name: str) -> dict[str, str]:
        """Return the environment of these commands."""

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function on the network of the services."""
        return function()

    def log(self, name: str) -> str:
        """Return what a service has printed."""
        return (self.directory / f"{name}.log").read_text()

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Run a service's command."""
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self.command(name), env=self.environ(name), cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return self.processes[name]

    def run_inside(self, name: str, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command beside a service."""
        return subprocess.run(
            self.command_inside(name, list(command)), env=self.environ(name), cwd=self.directory,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def is_healthy(self, name: str) -> bool:
        """Run a service's health check, as Docker does: by a shell or not."""
        kind, *test = self.services[name]["healthcheck"]["test"]
        command = ["/bin/sh", "-c", *test] if kind == "CMD-SHELL" else test
        return self.run_inside(name, *command).returncode == 0

    def start_healthy(self, name: str) -> None:
        """Start a service that is unhealthy so far, and wait until it is healthy."""
        assert not self.is_healthy(name)
        process = self.start(name)

        def up() -> bool:
            assert process.poll() is None, self.log(name)
            return self.is_healthy(name)

        eventually(up, 120)

    def stop(self, name: str) -> int:
        """Stop a service as Docker does, check that it is unhealthy, and return its exit status."""
        self.processes[name].terminate()
        status = self.processes[name].wait(30)
        assert not self.is_healthy(name)
        return status

    def end(self) -> None:
        """Kill everything."""
        for process in self.processes.values():
            process.kill()
            process.wait()


class Processes(Services):
    """The services as processes, on ports and in directories of a test."""

    def __init__(self, directory: Path, model: Path) -> None:
        super().__init__(directory, model)
        self.redis_port, self.gateway_port, self.flower_port = (free_port() for _ in range(3))
        (directory / "data").mkdir()
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

    def command(self, name: str) -> list[str]:
        here = f"dir {self.directory / 'data'}\nport {self.redis_port}\nbind 127.0.0.1\n"
        return [
            part.replace("dir /data\n", here)
            # No login page for other machines while it is tested.
            .replace("0.0.0.0", "127.0.0.1")
            for part in self.services[name]["command"]
        ]

    def command_inside(self, name: str, command: list[str]) -> list[str]:
        return command

    def environ(self, name: str) -> dict[str, str]:
        service = self.services[name]
        own = dict(service["environment"])
        if "BERTQ_REDIS_URL" in own:
            here = f"@127.0.0.1:{self.redis_port}/"
            own["BERTQ_REDIS_URL"] = own["BERTQ_REDIS_URL"].replace("@redis:6379/", here)
        if "BERTQ_MODEL_DIR" in own:
            own["BERTQ_MODEL_DIR"] = service["volumes"][0]["source"]
        if name == "gateway":
            own["BERTQ_HTTP_PORT"] = str(self.gateway_port)
        if name == "flower":
            own["FLOWER_PORT"] = str(self.flower_port)
        path = f"{self.directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**clean_environ(), **own, "PATH": path, "PORT": str(self.redis_port)}
