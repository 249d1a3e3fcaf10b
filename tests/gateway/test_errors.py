"""Errors over HTTP say nothing about addresses, queues, paths and versions; the log does."""

import logging
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from bertq import errors
from bertq.errors import BertqError, RemoteError
from bertq.state.purge import ERROR_NAME
from bertq_gateway.app import create
from bertq_gateway.batches import storage
from bertq_gateway.config import Config
from bertq_gateway.errors import to_refused
from tests.conftest import StartServer
from tests.gateway.conftest import running

SECRET = "redis://:**@10.0.0.7:6379/0 /srv/models gpu7 worker@host"


def test_an_outage_of_redis(
    start_own_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_own_server()
    port = server.port
    url = f"redis://127.0.0.1:{port}/0"
    with running(url, timeout_seconds=2.0) as gateway:
        assert gateway.embed("a").status_code == 503  # no worker
        with Redis(port=port) as redis:
            redis.shutdown(nosave=True)
        caplog.clear()
        answers = [
            gateway.embed("a"),
            gateway.http.post("/encode", json={"id": 1, "texts": ["a"]}),
            gateway.http.get("/v1/models"),
            gateway.http.get("/status/server"),
            gateway.http.get("/readyz"),
        ]
        for answer in answers:
            assert answer.status_code == 503, answer.text
            for internal in ("redis", "127.0.0.1", str(port), "Error", "111"):
                assert internal not in answer.text.replace("redis_unavailable", ""), answer.text
        assert answers[0].json()["error"]["code"] == "redis_unavailable"
        assert answers[-1].text.startswith("not ready: ")
    lines = [line for line in caplog.messages if "requests fail" in line]
    assert len(lines) <= 1  # one a minute: another test may have logged it
    assert all(url in line for line in lines)


def test_the_log_has_the_reason_once(caplog: pytest.LogCaptureFixture) -> None:
    class NeverSeen(BertqError):
        pass

    for _ in range(3):
        assert "a reason" not in str(to_refused(NeverSeen("a reason")))
    (record,) = (record for record in caplog.records if "a reason" in record.getMessage())
    assert record.levelno == logging.ERROR


def test_no_error_of_a_service_reaches_a_caller() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, BertqError)
        and not issubclass(kind, errors.BadInput | RemoteError)
    ]
    assert len(kinds) > 12
    failures = [kind(SECRET) for kind in kinds]
    failures += [RemoteError("OSError", SECRET), RemoteError(ERROR_NAME, SECRET)]
    for failure in failures:
        refusal = to_refused(failure)
        assert refusal.status in (429, 500, 503, 504)
        assert not [word for word in SECRET.split() if word in str(refusal)]
    assert to_refused(failures[-1]).code == "purged"


def test_a_mistake_of_the_caller_is_explained() -> None:
    refusal = to_refused(RemoteError("UnknownPrompt", "there is no prompt 'x'"))
    assert (refusal.status, str(refusal)) == (422, "there is no prompt 'x'")


@pytest.mark.parametrize("path", ["/encode/bug", "/v1/embed", "/embed"])
def test_a_bug_has_an_answer_of_the_api(path: str, caplog: pytest.LogCaptureFixture) -> None:
    app = create(Config(redis_url="redis://127.0.0.1:1/0"))

    @app.delete(path)
    def fail() -> None:
        raise ValueError(SECRET)

    @app.put(path)
    def fail_to_write() -> None:
        storage.sync_directory(Path("/nowhere"))

    with TestClient(app) as client:
        answer = client.delete(path)
        client.put(path)
    assert answer.status_code == (424 if path == "/embed" else 500)
    assert "the gateway failed because of a bug" in answer.text
    first, second = (line for line in caplog.messages if line.startswith("a request failed"))
    # The innermost frame of bertq's own code.
    assert "a request failed: ValueError in __call__, guard.py, line " in first
    reason = "FileNotFoundError (No such file or directory: /nowhere) in sync_directory, storage.py"
    assert f"a request failed: {reason}, line " in second
    assert SECRET not in answer.text + caplog.text
