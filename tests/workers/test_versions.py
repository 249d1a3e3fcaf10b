"""Clients of another version, and messages that no client sends, at a real worker."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import VersionMismatch, WireError
from bertq.protocol import keys, wire
from bertq.protocol.versions import WIRE_VERSION
from bertq_client.inbox.results import decode
from bertq_client.outbox.message import MessageBuilder
from tests import records
from tests.apps import create_app
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker, Start

SECRET = "a glockenspiel"


@pytest.fixture
def worker(start: Start) -> StandInWorker:
    return start(1.0)


def test_a_client_of_another_version_is_told_so(
    worker: StandInWorker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = standins.sentences(40)
    with monkeypatch.context() as patch, BertClient(redis_url=redis_url, timeout=20) as other:
        # Its workers of that version have just ended.
        patch.setattr("bertq_client.outbox.writer.choose_format", lambda _: WIRE_VERSION + 1)
        with pytest.raises(WireError) as caught:
            other.encode([SECRET, *texts])
    with BertClient(redis_url=redis_url, timeout=20) as client:
        np.testing.assert_array_equal(client.encode(texts), standins.rows(texts))
    assert type(caught.value) is VersionMismatch
    assert str(caught.value) == (
        f"the client speaks wire format {WIRE_VERSION + 1} and this worker {WIRE_VERSION}: "
        "install the same version of bertq on both"
    )
    worker.wait_for_log(f"failed, VersionMismatch: {caught.value}")
    assert worker.log.count("failed, VersionMismatch") == 1
    assert SECRET not in worker.log
    assert "Traceback" not in worker.log


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda headers: headers.pop("wire"), "VersionMismatch: the client speaks no known wire"),
        (lambda headers: headers.update(wire="1"), "the client speaks no known wire format and"),
        (lambda headers: headers.update(wire=0), "the client speaks wire format 0 and"),
        (lambda headers: headers.update(id="job-2"), "there is no chunk number 2: the job has 2"),
        (lambda headers: headers.update(task="celery.map"), "no task of that name"),
        (lambda headers: headers.update(eta="2999-01-01T00:00:00"), "a chunk cannot have eta"),
        (lambda headers: headers.update(chord={"task": "x"}), "a chunk cannot have chord"),
    ],
)
def test_a_refused_message_is_answered(
    worker: StandInWorker, redis: Redis, change: Any, error: str
) -> None:
    records.write(redis, "job", chunks=2)
    message = json.loads(MessageBuilder("me").build("job-1", [SECRET], "bertq"))
    change(message["headers"])
    task_id = message["headers"]["id"]
    redis.lpush("bertq", json.dumps(message))
    eventually(lambda: redis.xlen(keys.reply("me")), 20)
    notices: Any = redis.xrange(keys.reply("me"))
    payload = notices[0][1][b"result"]
    with pytest.raises(Exception, match=error.rpartition(": ")[2]):
        decode(payload, task_id)
    worker.wait_for_log(error)
    worker.wait_for(lambda: redis.hlen("unacked") == 0)
    assert SECRET not in worker.log


def test_a_refused_message_that_replies_to_a_job(worker: StandInWorker, redis: Redis) -> None:
    message = json.loads(MessageBuilder("job").build("job-0", [SECRET], "bertq"))
    message["headers"]["task"] = "celery.map"
    redis.lpush("bertq", json.dumps(message))
    worker.wait_for_log("no task of that name")
    worker.wait_for(lambda: redis.hlen("unacked") == 0)
    with BertClient(redis_url=worker.url, timeout=20) as client:
        np.testing.assert_array_equal(client.encode(["a b"]), standins.rows(["a b"]))


def test_an_id_in_the_arguments_is_refused(worker: StandInWorker, redis: Redis) -> None:
    # An id with the arguments would replace the checked id, and be logged.
    records.write(redis, "job")
    message = json.loads(MessageBuilder("me").build("job-0", ["a"], "bertq"))
    body = [[["a"]], {}, {"id": SECRET}]
    message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    redis.lpush("bertq", json.dumps(message))
    worker.wait_for_log("more than the arguments of a chunk")
    assert SECRET not in worker.log
    # The worker writes the line before the result.
    eventually(lambda: redis.exists(keys.result("job-0")), 20)
    assert wire.loads(redis.get(keys.result("job-0")))["status"] == "FAILURE"


def test_events_show_no_text_of_a_foreign_message(worker: StandInWorker, redis: Any) -> None:
    records.write(redis, "job")
    message = json.loads(MessageBuilder("me").build("job-0", ["a", "b"], "bertq"))
    message["headers"]["argsrepr"] = SECRET
    received = b""
    with redis.pubsub() as listener:
        listener.psubscribe("*")
        redis.lpush("bertq", json.dumps(message))
        worker.wait_for_log(": 2 rows, ")
        while b"task-succeeded" not in received:
            found: Any = listener.get_message(timeout=5)
            assert found is not None
            if isinstance(found["data"], bytes):
                received += base64.b64decode(json.loads(found["data"])["body"])
    assert b"<2 sentences>" in received
    assert SECRET.encode() not in received


def test_malformed_broadcasts_are_refused_and_others_are_answered(
    worker: StandInWorker, redis: Redis, redis_url: str
) -> None:
    channel = f"/{redis.connection_pool.connection_kwargs['db']}.celery.pidbox"
    broadcasts = ["{}", "5", '{"properties": 5}', "[" * 100_000]
    # The worker subscribes a moment after it is ready.
    eventually(lambda: redis.publish(channel, broadcasts[0]) == 1)
    for broadcast in broadcasts[1:]:
        assert redis.publish(channel, broadcast) == 1
    worker.wait_for_log("refused a broadcast: ", count=len(broadcasts))
    app = create_app(redis_url)
    control: Any = app.control
    assert [list(answer.values()) for answer in control.ping(timeout=5, limit=1)] == [
        [{"ok": "pong"}]
    ]
    app.close()
    assert "Traceback" not in worker.log
