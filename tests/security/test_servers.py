"""Servers that cannot be used are refused at once, with the reason; others cause a warning."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis, RedisError

from bertq import BertClient
from bertq.errors import RedisFull, RedisUnavailable
from bertq.redis.connection import connect, explain
from bertq_cli.service.embedded_redis import free_port
from tests.cli.runs import Run
from tests.conftest import StartServer
from tests.security.roles import FILE
from tests.workers.standins import StandInWorker

REFUSED = "Redis Cluster is not supported"


@pytest.fixture(params=["without slots", "with all slots", "without INFO"])
def cluster(request: pytest.FixtureRequest, start_own_server: StartServer) -> str:
    """The URL of a node of Redis Cluster."""
    port = start_own_server(**{"cluster-enabled": "yes"}).port
    with Redis(port=port) as redis:
        if request.param != "without slots":
            node: Any = redis
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while node.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                time.sleep(0.05)
        if request.param == "without INFO":
            redis.execute_command("ACL SETUSER default -info")
    return f"redis://127.0.0.1:{port}/0"


def output(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    run = Run(tmp_path, *arguments, **variables)
    try:
        return run.wait(60)
    finally:
        run.end()


def test_a_client_refuses_redis_cluster(cluster: str) -> None:
    started = time.monotonic()
    with BertClient(redis_url=cluster) as client:
        with pytest.raises(RedisUnavailable, match=REFUSED):
            client.encode(["a"])
        with pytest.raises(RedisUnavailable, match=REFUSED):
            client.submit(["a"])
    assert time.monotonic() - started < 5


def test_a_worker_refuses_redis_cluster(cluster: str, tmp_path: Path) -> None:
    worker = StandInWorker(cluster, tmp_path / "worker.log", 1, "-Q", "gpu0")
    try:
        assert worker.process.wait(40) in (69, 78)
    finally:
        worker.kill()
    assert worker.log.count(REFUSED) == 1
    assert "Traceback" not in worker.log


def test_commands_refuse_redis_cluster(
    cluster: str, tmp_path: Path, request: pytest.FixtureRequest, tiny_model: Path
) -> None:
    commands = [
        ["status"],
        ["http", "--port", str(free_port())],
        ["serve", "--cpu", "--model-dir", str(tiny_model)],
    ]
    if "without INFO" in request.node.name:
        commands = commands[3:]  # others learn it from the first refused command
    for command in commands:
        status, text = output(tmp_path, *command, BERTQ_REDIS_URL=cluster)
        assert status != 0, command
        assert REFUSED in text, (command, text)
        assert "Traceback" not in text


@pytest.fixture
def evicting(start_own_server: StartServer) -> Iterator[Any]:
    with Redis(port=start_own_server(**{"maxmemory-policy": "volatile-lru"}).port) as redis:
        yield redis


def test_a_server_that_evicts_keys_causes_a_warning(evicting: Any, tmp_path: Path) -> None:
    port = evicting.connection_pool.connection_kwargs["port"]
    url = f"redis://127.0.0.1:{port}/0"
    worker = StandInWorker(url, tmp_path / "worker.log", 1, "-Q", "gpu0")
    try:
        worker.wait_for_log(" ready.")
    finally:
        worker.kill()
    warning = "maxmemory-policy volatile-lru"
    assert worker.log.count(warning) == 1
    _, text = output(tmp_path, "status", BERTQ_REDIS_URL=url)
    assert f"warning     Redis has {warning}" in text
    _, text = output(tmp_path, "status", "--json", BERTQ_REDIS_URL=url)
    assert warning in json.loads(text)["warnings"][0]
    evicting.execute_command("ACL SETUSER default -info")  # as docs/users.acl had it before
    _, text = output(tmp_path, "status", "--json", BERTQ_REDIS_URL=url)
    assert json.loads(text)["warnings"] == []


def test_each_role_but_the_dashboard_may_ask_for_them() -> None:
    for line in FILE.read_text().splitlines():
        role = line.split()[1]
        asks = {"+info|cluster", "+info|memory"} <= set(line.split())
        assert asks == (role in ("client", "gateway", "worker")), role


def test_errors_of_redis_say_what_to_do(start_own_server: StartServer) -> None:
    port = start_own_server().port
    url = f"redis://127.0.0.1:{port}/0"

    def reason(url: str, *command: str) -> str:
        redis: Any = connect(url)
        with pytest.raises(RedisError) as caught:
            redis.execute_command(*(command or ("PING",)))
        redis.close()
        error = explain(caught.value, url).error
        assert isinstance(error, RedisUnavailable | RedisFull)
        assert "secret" not in str(error)
        return str(error)

    sources = "BERTQ_REDIS_URL or --redis-url"
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    assert "bertq serve and bertq redis" in reason(nobody)
    assert sources in reason(nobody)
    with Redis(port=port) as admin:
        admin.config_set("maxmemory", 1)
        assert "raise maxmemory" in reason(url, "SET", "key", "secret")
        admin.config_set("maxmemory", 0)
        admin.config_set("requirepass", "right")
        admin.auth("right")
        assert "redis://:PASSWORD@HOST" in reason(url)
        assert f"check user and password in {sources}" in reason(
            f"redis://:secret@127.0.0.1:{port}/0"
        )
        admin.config_set("requirepass", "")
        admin.replicaof("127.0.0.1", free_port())
        assert f"set {sources} to its primary" in reason(url, "SET", "key", "secret")
        admin.config_set("replica-serve-stale-data", "no")
        assert REFUSED not in reason(url, "GET", "key")
