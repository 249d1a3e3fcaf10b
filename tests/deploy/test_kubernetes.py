"""The Kubernetes objects: their form, and that what they name exists."""

import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError

from benchmarks.scaling import policies
from benchmarks.scaling.__main__ import compared_policies
from bertq.config.settings import Settings, variable
from bertq.protocol import queues
from bertq_cli.commands.http import http as gateway_command
from bertq_cli.service.embedded_redis import find_binary, free_port
from bertq_client.outbox.window import MAX_PENDING_CHUNKS
from bertq_gateway.guard import OPEN_PATHS
from tests.compose import stack
from tests.conftest import StartServer, clean_environ
from tests.waiting import eventually

DIRECTORY = Path(__file__).parents[2] / "deploy" / "kubernetes"
FILES = ["redis.yaml", "gateway.yaml", "worker-cpu.yaml", "worker-gpu.yaml"]
OBJECTS = {
    name: list(yaml.safe_load_all((DIRECTORY / name).read_text()))
    for name in [*FILES, "keda.yaml", "keda-prometheus.yaml"]
}
PAGE = (DIRECTORY.parents[1] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
COMPOSE = stack.read(stack.filled())

#: The releases of Kubernetes whose schemas the objects are checked against: old and new.
RELEASES = ["1.30", "1.34"]


def kind(file: str, wanted: str) -> Any:
    """Return the object of a kind in a file."""
    (found,) = (entry for entry in OBJECTS[file] if entry["kind"] == wanted)
    return found


def pod(file: str) -> Any:
    """Return the description of the pods in a file."""
    (found,) = (entry for entry in OBJECTS[file] if "template" in entry.get("spec", {}))
    assert (
        found["spec"]["selector"]["matchLabels"] == found["spec"]["template"]["metadata"]["labels"]
    )
    return found["spec"]["template"]["spec"]


def container(file: str) -> Any:
    """Return the only container of a pod."""
    (found,) = pod(file)["containers"]
    return found


def environ(file: str) -> dict[str, Any]:
    """Return the variables of a container: their values, or where they come from."""
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom"))
        for entry in container(file)["env"]
    }


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("file", FILES)
def test_objects_have_the_form_of_kubernetes(file: str, release: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    for entry in OBJECTS[file]:
        schemas.validate(entry, release, strict=True)


def test_kustomize_accepts_them() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [kubectl, "kustomize", str(DIRECTORY)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    assert {entry["metadata"]["namespace"] for entry in found} == {"bertq"}
    images = re.findall(r"image: (\S+)", done.stdout)
    assert sorted(images) == [
        "registry.example.org/bertq:cpu",
        "registry.example.org/bertq:front",
        container("redis.yaml")["image"],
    ]


@pytest.mark.parametrize("file", FILES)
def test_every_pod(file: str) -> None:
    described, only = pod(file), container(file)
    assert described["automountServiceAccountToken"] is False
    # Else Kubernetes sets variables such as BERTQ_REDIS_PORT.
    assert described["enableServiceLinks"] is False
    assert described["securityContext"]["runAsNonRoot"]
    assert described["securityContext"]["runAsUser"] >= 100
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= only["resources"]["requests"].keys()
    assert "memory" in only["resources"]["limits"]
    assert "livenessProbe" in only
    mounted = {mount["name"] for mount in only["volumeMounts"]}
    volumes = {volume["name"] for volume in described["volumes"]}
    assert mounted - volumes <= {"data"}  # of Redis' claim


def test_images_are_those_of_the_dockerfile() -> None:
    assert container("redis.yaml")["image"] == COMPOSE["services"]["redis"]["image"]
    dockerfile = (stack.DIRECTORY / "Dockerfile").read_text()
    targets = re.findall(r"^FROM base AS (\S+)$", dockerfile, re.MULTILINE)
    for file, target in {
        "gateway.yaml": "front", "worker-cpu.yaml": "cpu", "worker-gpu.yaml": "gpu",
    }.items():  # fmt: skip
        assert container(file)["image"] == f"bertq:{target}"
        assert target in targets
        assert f"USER {pod(file)['securityContext']['runAsUser']}\n" in dockerfile


def test_variables_exist() -> None:
    known = {variable(spec.name) for spec in fields(Settings)} | {"BERTQ_REDIS_URL"}
    for parameter in gateway_command.params:
        known |= {parameter.envvar} if isinstance(parameter.envvar, str) else set()
    known.add("BERTQ_HTTP_API_KEYS")
    for file in FILES[1:]:
        own = {name for name in environ(file) if name.startswith("BERTQ_")}
        assert own <= known
        assert environ(file)["BERTQ_REDIS_URL"] == ("redis://:$(REDIS_PASSWORD)@bertq-redis:6379/0")
        # A variable can name only those before it.
        assert list(environ(file)).index("REDIS_PASSWORD") < list(environ(file)).index(
            "BERTQ_REDIS_URL"
        )


@pytest.mark.parametrize("device", ["cpu0", "gpu0"])
def test_workers(device: str) -> None:
    """tests/compose runs the same command and the same health check."""
    file, service = f"worker-{device[:3]}.yaml", COMPOSE["services"][f"worker-{device}"]
    only = container(file)
    assert only["command"] == service["command"]
    for probe in ("startupProbe", "livenessProbe"):
        assert ["CMD", *only[probe]["exec"]["command"]] == service["healthcheck"]["test"]
    (port,) = only["ports"]
    assert str(port["containerPort"]) == environ(file)["BERTQ_METRICS_PORT"]
    read = Settings.read({name: str(value) for name, value in environ(file).items()}, {})
    assert (read.metrics_port, read.metrics_host) == (9100, "0.0.0.0")
    assert pod(file)["terminationGracePeriodSeconds"] == 120  # as stop_grace_period
    if device == "cpu0":
        assert str(read.threads) == only["resources"]["limits"]["cpu"]
    else:
        assert only["resources"]["limits"]["nvidia.com/gpu"] == 1
    budget = kind(file, "PodDisruptionBudget")["spec"]
    assert budget["selector"] == kind(file, "Deployment")["spec"]["selector"]


def test_the_gateway() -> None:
    only = container("gateway.yaml")
    name, command, *options = only["command"]
    assert (name, command) == ("bertq", "http")
    gateway_command.make_context("http", list(options))  # they exist
    given = dict(zip(options[::2], options[1::2], strict=True))
    (port,) = only["ports"]
    assert given["--host"] == "0.0.0.0"
    assert given["--port"] == str(port["containerPort"])
    before = int(only["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = pod("gateway.yaml")["terminationGracePeriodSeconds"]
    assert grace > before + int(given["--drain"])
    for probe in ("readinessProbe", "livenessProbe"):
        asked = only[probe]["httpGet"]
        assert asked["path"] in OPEN_PATHS  # it has no API key
        assert asked["port"] == port["name"]
    (exposed,) = kind("gateway.yaml", "Service")["spec"]["ports"]
    assert exposed["targetPort"] == port["name"]


def test_secrets_are_in_the_page() -> None:
    used = re.findall(r"secretKeyRef: {name: ([\w-]+), key: (\w+)}", "".join(
        (DIRECTORY / file).read_text() for file in FILES
    ))  # fmt: skip
    assert set(used) == {("bertq-redis", "password"), ("bertq-http", "keys")}
    for name, key in used:
        assert re.search(rf"create secret generic {name} .*--from-literal={key}=", PAGE)


def test_redis_starts(tmp_path: Path) -> None:
    """Its command, with the files and the port of this test."""
    only = container("redis.yaml")
    config = kind("redis.yaml", "ConfigMap")["data"]["valkey.conf"]
    (tmp_path / "data").mkdir()
    port = free_port()
    text = config.replace("/data", str(tmp_path / "data"))
    (tmp_path / "valkey.conf").write_text(f"{text}port {port}\nbind 127.0.0.1\n")
    (tmp_path / "valkey-server").symlink_to(find_binary())
    (script,) = only["args"]
    process = subprocess.Popen(
        [*only["command"], script.replace("/etc/valkey/", f"{tmp_path}/")],
        env={
            **clean_environ(),
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "REDISCLI_AUTH": "0123456789abcdef",
        },
        stdout=subprocess.DEVNULL,
    )
    try:
        with Redis(port=port, password="0123456789abcdef") as redis:

            def answers() -> bool:
                try:
                    return bool(redis.ping())
                except ConnectionError:
                    return False

            eventually(answers, 20)
            assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert redis.config_get("appendonly") == {"appendonly": "yes"}
        with Redis(port=port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"valkey-server" in arguments  # the shell has become the server, which gets SIGTERM
        assert b"0123456789abcdef" not in arguments
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_redis_has_twice_its_memory() -> None:
    config = kind("redis.yaml", "ConfigMap")["data"]["valkey.conf"]
    (limit,) = re.findall(r"^maxmemory (\d+)gb$", config, re.MULTILINE)
    assert container("redis.yaml")["resources"]["limits"]["memory"] == f"{2 * int(limit)}Gi"
    compose = COMPOSE["services"]["redis"]["command"][-1].splitlines()
    for line in config.splitlines():
        if not line.startswith(("maxmemory ", "tcp-keepalive")):
            assert line in compose


def test_keda() -> None:
    """By its description; its schema is not in the packages that the tests need."""
    (scaled,) = OBJECTS["keda.yaml"]
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = scaled["spec"]
    for file in ("worker-cpu.yaml", "worker-gpu.yaml"):
        deployment = kind(file, "Deployment")
        assert spec["scaleTargetRef"] == {"name": deployment["metadata"]["name"]}
        for trigger in spec["triggers"]:
            assert trigger["metadata"]["passwordFromEnv"] in environ(file)
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
    service = kind("redis.yaml", "Service")
    address = f"{service['metadata']['name']}.{scaled['metadata']['namespace']}.svc:6379"
    lists = []
    for trigger in spec["triggers"]:
        assert trigger.keys() == {"type", "metadata"}
        assert trigger["type"] == "redis"
        described = trigger["metadata"]
        assert described.keys() == {"address", "passwordFromEnv", "listName", "listLength"}
        assert all(isinstance(value, str) for value in described.values())
        assert described["address"] == address
        assert int(described["listLength"]) > 0
        lists.append(described["listName"])
        reached = int(described["listLength"]) * spec["maxReplicaCount"]
        assert reached <= MAX_PENDING_CHUNKS / 2
    assert lists == [queues.SHARED, queues.SMALL]


def test_keda_with_prometheus() -> None:
    """``test_prometheus.py`` runs the queries."""
    (scaled,) = OBJECTS["keda-prometheus.yaml"]
    (other,) = OBJECTS["keda.yaml"]
    for part in ("apiVersion", "kind", "metadata"):
        assert scaled[part] == other[part]
    assert scaled["spec"]["scaleTargetRef"] == other["spec"]["scaleTargetRef"]
    for trigger in scaled["spec"]["triggers"]:
        assert trigger.keys() == {"type", "metadata"}
        assert trigger["type"] == "prometheus"
        assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold"}
        assert float(trigger["metadata"]["threshold"]) > 0
    (work, busy) = (
        float(trigger["metadata"]["threshold"]) for trigger in scaled["spec"]["triggers"]
    )
    spec = scaled["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    policy = policies.by_work(
        work, busy, window_seconds=behavior["scaleDown"]["stabilizationWindowSeconds"]
    )
    # It is one of the policies that the page compares.
    assert policy.name in {one.name for one in compared_policies()}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (policy.low, policy.high)
    assert spec["pollingInterval"] == policies.POLL_SECONDS


def test_rights_of_keda(start_own_server: StartServer) -> None:
    """As the page gives them: for KEDA's script, and for nothing more."""
    (rights,) = re.findall(r"`(~bertq [^`]+)`", PAGE)
    server = start_own_server()
    with Redis(port=server.port) as redis:
        redis.execute_command("ACL", "SETUSER", "keda", "on", ">password", *rights.split())
        redis.lpush("bertq", "chunk")
    with Redis(port=server.port, username="keda", password="password") as keda:
        length = "if redis.call('type', KEYS[1]).ok then return redis.call('llen', KEYS[1]) end"
        assert keda.eval(length, 1, queues.SHARED) == 1
        assert keda.eval(length, 1, queues.SMALL) == 0
        for refused in (("GET", "bertq:job"), ("LRANGE", "bertq", 0, -1), ("LLEN", "unacked")):
            with pytest.raises(NoPermissionError):
                keda.execute_command(*refused)


def test_prometheus_finds_the_pods() -> None:
    text = (DIRECTORY.parent / "prometheus" / "prometheus-kubernetes.yml").read_text()
    for job in yaml.safe_load(text)["scrape_configs"]:
        (namespace,) = job["kubernetes_sd_configs"][0]["namespaces"]["names"]
        assert namespace == kind("keda.yaml", "ScaledObject")["metadata"]["namespace"]
        app, port = (
            entry["regex"] for entry in job["relabel_configs"] if entry.get("action") == "keep"
        )
        files = {"bertq-worker": FILES[2:], "bertq-gateway": ["gateway.yaml"]}[app]
        for file in files:
            assert labels(file) == {"app": app}
            assert [entry["name"] for entry in container(file)["ports"]] == [port]


def labels(file: str) -> Any:
    """Return the labels of the pods in a file."""
    return kind(file, "Deployment")["spec"]["template"]["metadata"]["labels"]
