"""Limits of a gateway, and its shutdown."""

import dataclasses
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from redis import Redis

from bertq.errors import SettingsError
from bertq.state import worker_info
from bertq.state.worker_info import WorkerStats
from bertq_gateway import config
from bertq_gateway.batches.settings import BatchSettings
from bertq_gateway.config import Config
from tests.client.stub import Stub, info
from tests.gateway.conftest import Gateway, StartGateway, running
from tests.waiting import eventually


def check(answer: httpx.Response, status: int, code: str | None) -> dict[str, str]:
    """Look at an error; return it."""
    assert answer.status_code == status, answer.text
    fault: dict[str, str] = answer.json()["error"]
    assert fault.keys() == {"message", "type", "param", "code"}
    assert fault["code"] == code
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    return fault


def test_a_body_that_is_too_long(start_gateway: StartGateway, stub: Stub) -> None:
    gateway = start_gateway(max_body_bytes=1000)
    check(gateway.embed("a" * 1000), 413, "body_too_large")
    body = json.dumps({"model": "stub", "input": "a" * 1000}).encode()
    parts = (body[first : first + 100] for first in range(0, len(body), 100))
    headers = {"Content-Type": "application/json"}
    chunked = gateway.http.post("/v1/embeddings", content=parts, headers=headers)
    assert "1000 bytes" in check(chunked, 413, None)["message"]
    assert gateway.embed("a").status_code == 200


def test_a_batch_that_is_too_large(start_gateway: StartGateway, stub: Stub) -> None:
    gateway = start_gateway(max_batch=3)
    fault = check(gateway.embed(*"abcd"), 413, "batch_too_large")
    assert fault["message"] == "4 inputs: a request may have at most 3"
    answer = gateway.http.post("/encode", json={"id": 1, "texts": list("abcd")})
    check(answer, 413, "batch_too_large")
    assert gateway.embed(*"abc").status_code == 200


def test_too_many_requests(start_gateway: StartGateway, stub: Stub) -> None:
    gateway = start_gateway(max_requests=2)
    stub.gate.clear()
    with ThreadPoolExecutor() as pool:
        two = [pool.submit(gateway.embed, text) for text in "ab"]
        eventually(lambda: stub.asked)
        eventually(lambda: gateway.embed("c").status_code == 429)
        check(gateway.embed("c"), 429, "too_many_requests")
        assert gateway.http.get("/healthz").status_code == 200
        stub.gate.set()
        assert all(answer.result().status_code == 200 for answer in two)
    assert gateway.embed("c").status_code == 200


def test_too_many_connections(start_gateway: StartGateway, stub: Stub) -> None:
    gateway = start_gateway(max_connections=3)
    idle = [gateway.connect() for _ in range(4)]
    try:
        eventually(lambda: gateway.http.get("/healthz").status_code == 503)
    finally:
        for connection in idle:
            connection.close()
    eventually(lambda: gateway.http.get("/healthz").status_code == 200)


def test_no_worker(gateway: Gateway, redis: Redis) -> None:
    check(gateway.embed("a"), 503, "no_worker")
    answer = gateway.http.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ready: no worker is alive")
    assert answer.headers["retry-after"]
    assert gateway.http.get("/v1/models").json()["data"] == []


def test_workers_that_hang(gateway: Gateway, redis: Redis) -> None:
    made = info(["bertq", "bertq.small"])
    hangs = dataclasses.replace(made, work=WorkerStats(batch_seconds=100.0))
    worker_info.publish(redis, hangs)
    answer = gateway.http.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ready: all workers hang")
    worker_info.publish(redis, dataclasses.replace(made, node="other@test"))
    eventually(lambda: gateway.http.get("/readyz").text == "ready: stub")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/files"])
def test_a_body_that_does_not_arrive(
    start_gateway: StartGateway, stub: Stub, tmp_path: Path, path: str
) -> None:
    batches = BatchSettings(tmp_path)
    gateway = start_gateway(max_requests=1, timeout_seconds=1.0, batches=batches)
    kind = "multipart/form-data; boundary=x" if path == "/v1/files" else "application/json"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: {kind}"
    with gateway.connect() as connection:
        connection.sendall(f"{head}\r\n\r\n-".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # until it is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"message":"the body did not arrive within 1 s' in answer
    assert gateway.embed("a").status_code == 200


def test_a_worker_that_does_not_answer(start_gateway: StartGateway, redis: Redis) -> None:
    worker_info.publish(redis, info(["bertq", "bertq.small"]))
    gateway = start_gateway(timeout_seconds=0.3)
    check(gateway.embed("a"), 504, "timeout")


def test_a_queue_that_is_full(gateway: Gateway, redis: Redis) -> None:
    worker_info.publish(redis, info(["bertq", "bertq.small"]))
    redis.lpush("bertq.small", *range(1024))
    check(gateway.embed("a"), 429, "queue_full")


def test_redis_is_away(silent_port: int) -> None:
    with running(f"redis://127.0.0.1:{silent_port}/0") as gateway:
        check(gateway.embed("a"), 503, "redis_unavailable")
        assert gateway.http.get("/readyz").status_code == 503
        assert gateway.http.get("/healthz").text == "ok"


def test_requests_share_the_timeout_of_a_frozen_redis() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as frozen,
        running(f"redis://127.0.0.1:{frozen.getsockname()[1]}/0") as gateway,
        ThreadPoolExecutor(8) as pool,
    ):
        # One after the other, they would take longer than the caller waits.
        for answer in pool.map(gateway.embed, "abcdefgh"):
            check(answer, 503, "redis_unavailable")


@pytest.fixture
def silent_port() -> int:
    """A port that nothing listens on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def test_errors_of_the_worker(gateway: Gateway, stub: Stub) -> None:
    fault = check(gateway.embed("!fail"), 500, "RemoteError")
    assert "ZeroDivisionError" not in fault["message"]


def test_a_caller_that_hangs_up(gateway: Gateway, stub: Stub) -> None:
    gateway.embed("a")  # the first request has made everything that requests need
    stub.gate.clear()
    body = json.dumps({"model": "stub", "input": "b"}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with gateway.connect() as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        eventually(lambda: stub.asked == 2)
    counted = 'route="/v1/embeddings",status="499"'
    eventually(lambda: counted in gateway.http.get("/metrics").text)
    # The worker reads the record of the job before it encodes.
    time.sleep(0.2)
    stub.gate.set()
    eventually(lambda: len(stub.dropped) == 1)


def test_requests_in_progress_are_answered(gateway: Gateway, stub: Stub) -> None:
    stub.gate.clear()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(gateway.embed, "a")
        eventually(lambda: stub.asked)
        gateway.stop.set()
        time.sleep(0.3)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{gateway.port}/healthz")
        stub.gate.set()
        assert answer.result().status_code == 200
    gateway.thread.join(10)
    assert not gateway.thread.is_alive()


def test_the_end_of_the_drain(
    start_gateway: StartGateway, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = start_gateway(drain_seconds=1)
    stub.gate.clear()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(gateway.embed, "a")
        eventually(lambda: stub.asked)
        gateway.stop.set()
        check(answer.result(), 503, "shutting_down")
    stub.gate.set()
    gateway.thread.join(10)
    (line,) = capsys.readouterr().err.splitlines()
    assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in line


def test_other_origins(start_gateway: StartGateway, stub: Stub) -> None:
    origin = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    plain, open_ = start_gateway(), start_gateway(cors=("https://example.org",))
    assert "access-control-allow-origin" not in plain.http.get("/v1/models", headers=origin).headers
    assert plain.http.options("/v1/embeddings", headers=origin).status_code == 405
    asked = "authorization, content-type, x-stainless-lang, x-stainless-retry-count, x-new"
    answer = open_.http.options(
        "/v1/embeddings", headers={**origin, "Access-Control-Request-Headers": asked}
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    assert answer.headers["access-control-allow-headers"] == asked
    exposed = open_.http.get("/v1/models", headers=origin).headers["access-control-expose-headers"]
    assert exposed == "Retry-After, X-Model-Fingerprint, X-Truncated-Inputs"
    other = open_.http.get("/v1/models", headers={"Origin": "https://example.com"})
    assert "access-control-allow-origin" not in other.headers
    wrong = open_.http.options("/v1/models", headers={**origin, "Origin": "https://example.com"})
    assert wrong.status_code == 400


def test_origins_have_no_path() -> None:
    url = "redis://localhost:6379/0"
    Config(redis_url=url, cors=("*", "null", "https://example.org:8443", "http://127.0.0.1"))
    for wrong in ("https://example.org/", "example.org", "https://example.org/page", ""):
        with pytest.raises(SettingsError, match="an origin without a path"):
            Config(redis_url=url, cors=(wrong,))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_the_time_limit_is_finite(seconds: float) -> None:
    with pytest.raises(SettingsError, match=r"--timeout is .*: it must be a number of seconds"):
        Config(redis_url="redis://localhost:6379/0", timeout_seconds=seconds)


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/stub", "/docs"]
)
def test_head(gateway: Gateway, stub: Stub, path: str) -> None:
    answer, whole = gateway.http.head(path), gateway.http.get(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == whole.headers["content-type"]
    assert gateway.http.head("/v1/embeddings").status_code == 405
    assert gateway.http.head("/nope").status_code == 404


def exchange(connection: socket.socket) -> bytes:
    """Send a health check on an open connection; return the answer, empty if it is closed."""
    answer = b""
    try:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        while not answer.endswith(b"ok") and (part := connection.recv(1000)):
            answer += part
    except OSError:
        return b""
    return answer


def test_idle_connections_stay_open(start_gateway: StartGateway) -> None:
    assert Config(redis_url="redis://localhost:6379/0").keep_alive_seconds > 75
    default, short = start_gateway(), start_gateway(keep_alive_seconds=1)
    with default.connect() as kept, short.connect() as closed:
        assert exchange(kept).startswith(b"HTTP/1.1 200")
        assert exchange(closed).startswith(b"HTTP/1.1 200")
        time.sleep(6)
        assert exchange(kept).startswith(b"HTTP/1.1 200")
        assert exchange(closed) == b""


def test_head_of_readyz_without_workers(gateway: Gateway, redis: Redis) -> None:
    answer = gateway.http.head("/readyz")
    assert (answer.status_code, answer.content) == (503, b"")
    assert answer.headers["retry-after"]


def test_unknown_paths(gateway: Gateway) -> None:
    check(gateway.http.get("/nope"), 404, None)
    check(gateway.http.get("/v1/embeddings"), 405, None)
    check(gateway.http.post("/v1/embeddings", content=b"{"), 422, "model_attributes_type")


def test_no_text_is_logged(gateway: Gateway, stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        gateway.embed("my secret")
        gateway.embed("my secret", " ")
        gateway.embed("my secret", "!fail")
    assert "secret" not in "".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("http")
    )
    assert "secret" not in gateway.http.get("/metrics").text


def test_without_a_key_only_this_machine_is_served() -> None:
    url = "redis://localhost:6379/0"
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(SettingsError, match="accepts other machines, and needs an API key"):
            Config(redis_url=url, host=host)
        Config(redis_url=url, host=host, api_keys=frozenset({"k" * 16}))
    for host in ("127.0.0.1", "::1", "localhost"):
        Config(redis_url=url, host=host)
    assert "kkkk" not in repr(Config(redis_url=url, api_keys=frozenset({"k" * 16})))


def test_keys_and_aliases() -> None:
    first, second = "a" * 16, "b" * 16
    text = f"# two keys\n{first}\n\n {second} ,\n"
    assert config.parse_keys(text, "keys") == {first, second}
    assert config.parse_keys("", "keys") == frozenset()
    for wrong, reason in (("short", "fewer than 16"), ("ü" * 16, "ASCII"), ("a b" * 9, "ASCII")):
        with pytest.raises(SettingsError, match=reason) as caught:
            config.parse_keys(wrong, "keys")
        assert wrong not in str(caught.value)
    assert config.parse_aliases(("a=b", "c=d=e")) == {"a": "b", "c": "d=e"}
    for pair in ("a", "=b", "a="):
        with pytest.raises(SettingsError, match="NAME=MODEL"):
            config.parse_aliases((pair,))


def test_many_at_once(gateway: Gateway, stub: Stub) -> None:
    before = threading.active_count()
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda n: gateway.embed(f"{n}", f"x {n}"), range(300)))
    assert all(answer.status_code == 200 for answer in answers)
    assert threading.active_count() <= before + 40


def test_the_cache(start_gateway: StartGateway, stub: Stub) -> None:
    plain, cached = start_gateway(), start_gateway(cache_rows=100)
    assert "bertq_http_cache" not in plain.http.get("/metrics").text
    answers = [cached.embed("a", "b") for _ in range(3)]
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert stub.chunks == [2]
    metrics = cached.http.get("/metrics").text
    assert "bertq_http_cache_hits_total 2.0" in metrics
    assert "bertq_http_cache_misses_total 1.0" in metrics
    assert "bertq_http_cache_rows 2.0" in metrics
    assert "bertq_http_sentences_total 6.0" in metrics
