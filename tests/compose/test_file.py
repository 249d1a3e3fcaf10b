"""The form of the compose file, and settings that all services share."""

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

from bertq.config.settings import Settings, variable
from bertq.protocol import queues
from tests.compose import stack

SERVICES: dict[str, Any] = stack.read(stack.filled())["services"]
WORKERS = [name for name in SERVICES if name.startswith("worker-")]
DOCKERFILE = (stack.DIRECTORY / "Dockerfile").read_text()


def test_it_is_a_compose_file() -> None:
    """By the schema of the Compose Specification, as check-jsonschema has it."""
    schema = ["--builtin-schema", "vendor.compose-spec"]
    command = [sys.executable, "-m", "check_jsonschema", *schema, str(stack.FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_docker_compose_accepts_it() -> None:
    docker = shutil.which("docker")
    version = docker and subprocess.run([docker, "compose", "version"], capture_output=True)
    if not version or version.returncode:
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [str(docker), "compose", "-f", str(stack.FILE), "--profile", "*", "config", "--quiet"],
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", **stack.filled()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_example_has_every_variable_and_no_other() -> None:
    assert stack.names(stack.FILE.read_text()) | {"COMPOSE_PROFILES"} == stack.example().keys()
    assert stack.example()["COMPOSE_PROFILES"] in {p for s in SERVICES.values()
                                                   for p in s.get("profiles", ())}  # fmt: skip


@pytest.mark.parametrize("name", ["REDIS_PASSWORD", "HTTP_API_KEYS", "FLOWER_LOGIN", "MODEL_DIR"])
def test_required_variables(name: str) -> None:
    with pytest.raises(stack.Missing, match=f"{name}: set (it|them) in .env"):
        stack.read(stack.filled() | {name: ""})
    assert name == "MODEL_DIR" or stack.example()[name] == ""


@pytest.mark.parametrize("name", SERVICES)
def test_every_service(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    command = service["command"]
    assert isinstance(command, list)
    # No shell between the program and SIGTERM.
    assert command[:2] != ["sh", "-c"] or command[2].startswith("exec ")
    shown = str(service["command"]) + str(service["healthcheck"])
    for secret in ("redispassword", "gatewaykey", "dashboardpassword"):
        assert secret not in shown


@pytest.mark.parametrize("name", SERVICES)
def test_variables_are_known(name: str) -> None:
    known = {variable(spec.name) for spec in fields(Settings)}
    known |= {"BERTQ_REDIS_URL", "BERTQ_HTTP_API_KEYS", "BERTQ_HTTP_PORT"}
    own = {key for key in SERVICES[name]["environment"] if key.startswith("BERTQ_")}
    assert own <= known


def test_redis_is_reachable_only_by_the_other_services() -> None:
    redis = SERVICES["redis"]
    assert "ports" not in redis
    assert redis["networks"] == ["queue"]
    networks = stack.read(stack.filled())["networks"]
    assert networks["queue"] == {"internal": True}
    for name in ("gateway", "flower"):
        (port,) = SERVICES[name]["ports"]
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_for_each_device(name: str) -> None:
    service = SERVICES[name]
    device = name.removeprefix("worker-")
    found = queues.parse_device(device)
    assert found is not None
    assert service["profiles"] == [device]
    assert service["command"][-3:] == [device, "-l", "INFO"]
    assert service["healthcheck"]["test"] == ["CMD", "bertq", "health", "--queue", device]
    assert service["build"]["target"] == found.kind
    (model,) = service["volumes"]
    assert model["read_only"]
    assert model["target"] == service["environment"]["BERTQ_MODEL_DIR"]
    assert ("deploy" in service) == (found.kind == "gpu")
    if found.kind == "gpu":
        (asked,) = service["deploy"]["resources"]["reservations"]["devices"]
        # All GPUs: the queue name selects one by its number among all.
        assert asked == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_images_are_pinned_and_not_root() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-", DOCKERFILE, re.MULTILINE)
    known = {"python:${PYTHON}"}
    for base, name in stages:
        assert base in known
        known.add(name)
    assert ":latest" not in stack.FILE.read_text()
    assert re.fullmatch(r"\S+:\d+\.\d+\.\d+\S*", SERVICES["redis"]["image"])
    base = DOCKERFILE.partition(" AS base")[2].partition("\nFROM")[0]
    assert re.search(r"^USER \d{4,}$", base, re.MULTILINE)
    assert DOCKERFILE.count("\nUSER ") == 1
    installs = re.findall(r" pip install (.*)$", DOCKERFILE, re.MULTILINE)
    assert len(installs) == 4
    assert all(text.startswith("-c constraints.txt ") for text in installs)


def test_the_build_targets_exist() -> None:
    targets = {s["build"]["target"] for s in SERVICES.values() if "build" in s}
    assert targets == {"front", "cpu", "gpu"}
    for target in targets:
        assert re.search(rf"^FROM base AS {target}$", DOCKERFILE, re.MULTILINE)
