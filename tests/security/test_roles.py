"""Users of Redis with the rights of a role: each can do its job, but nothing else."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from bertq import BertClient
from bertq.errors import RedisUnavailable
from bertq_cli.service.embedded_redis import free_port
from tests.conftest import StartServer, clean_environ
from tests.programs import running
from tests.security.roles import ROLES, Guarded
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker, encoded_chunks

TEXTS = standins.sentences(2000)


@pytest.fixture
def guarded(start_own_server: StartServer, tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(start_own_server, tmp_path)
    yield made
    made.admin.close()


@contextmanager
def working(url: str, log: Path, batch_ms: float, queue: str) -> Iterator[StandInWorker]:
    worker = StandInWorker(url, log, batch_ms, "-Q", queue)
    try:
        worker.wait_for_log(" ready.")
        yield worker
    finally:
        worker.kill()


def get(url: str, document: object = None) -> Any:
    data = None if document is None else json.dumps(document).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def answers(url: str) -> bool:
    try:
        return bool(get(url))
    except OSError:
        return False


def bertq(url: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "bertq_cli", *arguments]
    environ = clean_environ() | {"BERTQ_REDIS_URL": url}
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_a_client_and_workers_one_of_which_dies(guarded: Guarded, tmp_path: Path) -> None:
    url = guarded.url("worker")
    admin: Any = guarded.admin
    with BertClient(redis_url=guarded.url("client")) as client:
        lost = client.submit(["lost on its way"]).id
        assert admin.rpop("bertq.small")  # the monitor of durable jobs will notice
    with (
        working(url, tmp_path / "quick.log", 1, "gpu0") as quick,
        working(url, tmp_path / "slow.log", 3000, "gpu1") as slow,
        BertClient(redis_url=guarded.url("client"), timeout=60) as client,
    ):
        future = client.encode_async(TEXTS)
        eventually(lambda: admin.hlen("unacked") > 0)
        eventually(lambda: bool(encoded_chunks(quick)))
        slow.kill()
        np.testing.assert_array_equal(future.result(60), standins.rows(TEXTS))
        client.encode_async(TEXTS).cancel()
        job = client.submit(TEXTS)
        np.testing.assert_array_equal(job.result(30), standins.rows(TEXTS))
        assert {info.id for info in client.jobs()} == {job.id, lost}
        assert job.renew(100)
        assert job.progress == (2000, 2000)
        assert job.discard()
        client.submit(TEXTS).cancel()
        assert any(node.startswith("gpu0@") for node in client.server_config)
        assert "unacked" in client.server_status
        out = tmp_path / "vectors.npy"
        (tmp_path / "texts").write_text("\n".join(TEXTS[:100]))
        bertq(guarded.url("client"), "encode", str(tmp_path / "texts"), "-o", str(out))
        assert np.load(out).shape == (100, standins.DIM)
        assert "gpu0@" in bertq(guarded.url("client"), "status")
        assert bertq(guarded.url("client"), "health", "--probe").startswith("healthy")
        bertq(guarded.url("client"), "jobs")
        assert client.job(lost).result(60).shape == (1, standins.DIM)
        assert quick.stop() == 0
    assert guarded.refused() == []


def run_batch(url: str, body: dict[str, Any]) -> None:
    """Run a batch of one request in a gateway."""
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}
    with openai.OpenAI(base_url=url, api_key="any") as client:
        file = client.files.create(file=json.dumps(line).encode(), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )
        eventually(lambda: client.batches.retrieve(batch.id).status == "completed", 30)


def test_a_dashboard_and_a_gateway(guarded: Guarded, tmp_path: Path) -> None:
    flower, http = free_port(), free_port()
    dashboard = guarded.url("dashboard")
    with (
        working(guarded.url("worker"), tmp_path / "worker.log", 1, "gpu0") as worker,
        running(
            dashboard, tmp_path / "flower.log", "celery", "-A", "bertq", "flower",
            f"--port={flower}", FLOWER_UNAUTHENTICATED_API="1",
        ),
        running(
            guarded.url("gateway"), tmp_path / "gateway.log", "bertq_cli", "http",
            "--port", str(http), "--batch-dir", str(tmp_path / "batches"),
        ),
    ):  # fmt: skip
        eventually(lambda: answers(f"http://127.0.0.1:{http}/readyz"), 30)
        eventually(lambda: answers(f"http://127.0.0.1:{flower}/healthcheck"), 30)
        asked = {"model": "clock", "input": ["one two three"]}
        answer = json.loads(get(f"http://127.0.0.1:{http}/v1/embeddings", asked))
        assert answer["data"][0]["embedding"] == standins.rows(["one two three"])[0].tolist()
        assert json.loads(get(f"http://127.0.0.1:{http}/status/server"))["num_worker"] == 1
        assert "bertq_http" in get(f"http://127.0.0.1:{http}/metrics")
        run_batch(f"http://127.0.0.1:{http}/v1", asked)

        def seen() -> bool:
            api = f"http://127.0.0.1:{flower}/api"
            workers = json.loads(get(f"{api}/workers?refresh=1"))
            tasks = json.loads(get(f"{api}/tasks"))
            return any(found.get("stats") for found in workers.values()) and bool(tasks)

        eventually(seen, 30)
        assert "bertq" in get(f"http://127.0.0.1:{flower}/broker")
        pong = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "bertq", "inspect", "ping"],
            env=clean_environ() | {"BERTQ_REDIS_URL": dashboard},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "pong" in pong.stdout, pong
        assert worker.stop() == 0
    assert guarded.refused() == []


#: Commands that no role may run: an attacker with its password could use them.
NO_ROLE = """
    GET other:key | SET other:key 1 | DEL other:key | KEYS * | SCAN 0 | RANDOMKEY | DBSIZE
    FLUSHALL | FLUSHDB | CONFIG GET * | CONFIG SET dir /tmp | ACL LIST | ACL SETUSER other on
    MONITOR | CLIENT LIST | CLIENT KILL TYPE normal | DEBUG SLEEP 1 | SHUTDOWN | SAVE | BGSAVE
    REPLICAOF no one | MODULE LIST | SCRIPT FLUSH | FUNCTION FLUSH | DUMP bertq
    RENAME bertq other | COPY bertq other | SORT bertq | MIGRATE h 1 bertq 0 1
    EVAL script 1 other:key | INFO | SWAPDB 0 1 | PUBLISH other text | SUBSCRIBE other
    PSUBSCRIBE * | SLOWLOG GET | LATENCY LATEST
"""
SENDER = """
    RPOP bertq | LRANGE bertq 0 -1 | LINDEX bertq 0 | LPOP bertq.small | BRPOP gpu0 0
    LTRIM bertq 0 0 | LMOVE bertq bertq.small LEFT LEFT | BLMPOP 0 1 bertq RIGHT
    LSET bertq 0 x | HGET unacked x | HGETALL unacked | HVALS unacked
    HMGET unacked x | HSET unacked x y | HDEL unacked x | UNLINK unacked
    ZRANGE unacked_index 0 -1 | ZADD unacked_index 1 x | LPUSH gpu0@host.celery.pidbox x
    PUBLISH /0.celery.pidbox x | PSUBSCRIBE /0.celeryev/* | SADD _kombu.binding.bertq x
"""
NOT = {
    "client": NO_ROLE + SENDER,
    "gateway": NO_ROLE + SENDER,
    "worker": NO_ROLE,
    "dashboard": NO_ROLE
    + """
    RPOP bertq | BRPOP bertq 0 | LRANGE bertq 0 -1 | LPUSH bertq x | DEL bertq | HGETALL unacked
    HGET unacked x | HLEN unacked | ZRANGE unacked_index 0 -1 | GET celery-task-meta-x
    SET bertq:epoch x | GET bertq:worker:gpu0@host | HGETALL bertq:job:x
    XREAD STREAMS bertq:reply:x 0 | ZRANGE bertq:kept 0 -1 | GET bertq:queue:bertq
    EVAL script 1 bertq:kept
    """,
}
#: Commands that each role may run, which shows that the test above can fail.
MAY = {
    "client": """
    LPUSH bertq x | LREM bertq 0 x | LLEN bertq | HLEN unacked | HEXISTS unacked x
    GET bertq:worker:x
    """,
    "worker": "BRPOP bertq 0 | HGETALL bertq:job:x | HSET unacked x y | LLEN bertq",
    "dashboard": "LLEN bertq | LLEN gpu0 | PUBLISH /0.celery.pidbox x | PSUBSCRIBE /0.celeryev/*",
}
MAY["gateway"] = MAY["client"]


def commands(text: str) -> list[str]:
    return [part.strip() for line in text.splitlines() for part in line.split("|") if part.strip()]


def test_each_role_may_run_only_its_commands(guarded: Guarded) -> None:
    for role in ROLES:
        assert [command for command in commands(NOT[role]) if guarded.may(role, command)] == []
        assert [command for command in commands(MAY[role]) if not guarded.may(role, command)] == []


def test_no_role_may_administer_the_server(guarded: Guarded) -> None:
    admin: Any = guarded.admin
    kept = {str(name) for kind in ("admin", "dangerous") for name in admin.acl_cat(kind)}
    assert {"config|set", "keys", "info"} <= kept
    for role in ROLES:
        given = {rule.removeprefix("+") for rule in admin.acl_getuser(role)["commands"]}
        assert len(given) > 20
        assert given & kept == set()


def test_the_default_user_is_refused(guarded: Guarded) -> None:
    url = f"redis://127.0.0.1:{guarded.server.port}/0"
    with (
        BertClient(redis_url=url, timeout=10) as client,
        pytest.raises(RedisUnavailable, match="requires a login"),
    ):
        client.encode(["a"])


def test_missing_rights_are_a_clear_error(guarded: Guarded, tmp_path: Path) -> None:
    with (
        BertClient(redis_url=guarded.url("dashboard"), timeout=30) as client,
        pytest.raises(RedisUnavailable, match=r"refuses: .* .docs/users.acl lists the rights"),
    ):
        client.encode(["a secret sentence"])
    for role in ("client", "dashboard"):
        worker = StandInWorker(guarded.url(role), tmp_path / f"{role}.log", 1, "-Q", "gpu0")
        try:
            assert worker.process.wait(30) in (69, 78)
        finally:
            worker.kill()
        assert "docs/users.acl lists the rights of each role" in worker.log
        assert "Traceback" not in worker.log
