"""The message that the client makes by hand, and the one that Celery and kombu make."""

import json
import time
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
from kombu import Connection
from redis import Redis

from bertq import BertClient
from bertq.errors import VersionMismatch, WireError
from bertq.protocol import keys, wire
from bertq.protocol.queues import ENCODE_TASK
from bertq.protocol.versions import WIRE_VERSION
from bertq.protocol.wire import ChunkResult
from bertq_client.outbox.message import MessageBuilder
from tests.apps import create_app
from tests.client.stub import Stub, rows
from tests.waiting import eventually

TEXTS = [
    "plain",
    "\u00fcml\u00e4ut \U0001f600",
    'quotes " and \\',
    "a lone \ud800 surrogate",
    "\0\n",
]

OPTIONS = {"normalize": True, "truncate": "left"}


def sent_by_celery(url: str, redis: Redis, queue: str) -> Any:
    """The message on the queue after Celery has sent a chunk."""
    app = create_app(url)
    with Connection(url) as connection, app.amqp.Producer(connection) as producer:
        message = app.amqp.create_task_message(
            "job-0",
            ENCODE_TASK,
            [TEXTS, OPTIONS],
            {},
            argsrepr=f"(<{len(TEXTS)} sentences>,)",
            kwargsrepr="{}",
            reply_to="client",
        )
        app.amqp.send_task_message(producer, ENCODE_TASK, message, queue=queue, retry=False)
    app.close()
    assert redis.llen(queue) == 1
    return redis.lpop(queue)


@pytest.mark.parametrize("queue", ["bertq", "bertq.small", "gpu7"])
def test_the_message_is_that_of_celery(redis_url: str, redis: Redis, queue: str) -> None:
    theirs = json.loads(sent_by_celery(redis_url, redis, queue))
    mine = json.loads(MessageBuilder("client").build("job-0", TEXTS, queue, OPTIONS))
    assert theirs["properties"].pop("delivery_tag")
    assert mine["properties"].pop("delivery_tag") == "job-0"
    assert mine["headers"].pop("wire") == WIRE_VERSION
    assert mine["headers"].pop("notice") is True
    assert time.time() - 60 < mine["headers"].pop("sent") <= time.time()
    assert mine == theirs
    assert json.loads(b64decode(mine["body"]))[0] == [TEXTS, OPTIONS]


def test_it_shows_none_of_the_text(redis_url: str) -> None:
    message = json.loads(MessageBuilder("client").build("job-0", ["a secret"], "bertq"))
    del message["body"]
    assert "secret" not in json.dumps(message)
    assert message["headers"]["argsrepr"] == "(<1 sentences>,)"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (WIRE_VERSION + 1, f"the worker speaks wire format {WIRE_VERSION + 1} and this client"),
        (None, "the worker speaks no known wire format and this client"),
        (True, "no known wire format"),
        (str(WIRE_VERSION), "no known wire format"),
    ],
)
def test_a_result_of_another_version_is_refused(
    client: BertClient, stub: Stub, monkeypatch: pytest.MonkeyPatch, version: Any, message: str
) -> None:
    to_wire = ChunkResult.to_wire
    with monkeypatch.context() as patch:
        patch.setattr(ChunkResult, "to_wire", lambda self: {**to_wire(self), "wire": version})
        with pytest.raises(WireError, match=message) as caught:
            client.encode(TEXTS[:2])
    assert type(caught.value) is VersionMismatch
    assert "install the same version of bertq on both" in str(caught.value)
    np.testing.assert_array_equal(client.encode(TEXTS[:2]), rows(TEXTS[:2]))


def test_a_worker_that_refuses_the_version_is_no_failed_chunk(
    client: BertClient, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise VersionMismatch("the client speaks another one")

    monkeypatch.setattr(stub, "encode", refuse)
    with pytest.raises(VersionMismatch, match="the client speaks another one"):
        client.encode(["a"])


def test_a_notice_of_an_unknown_chunk_is_ignored(
    client: BertClient, stub: Stub, redis: Redis
) -> None:
    stub.gate.clear()
    future = client.encode_async(["a"])
    eventually(lambda: next(redis.scan_iter("bertq:job:*"), None), 20)
    (job,) = redis.scan_iter("bertq:job:*")
    record: Any = redis.hgetall(job)
    task = f"{job.decode().rpartition(':')[2]}-7"
    failed = wire.dumps({"status": "FAILURE", "result": {"exc_type": "E", "exc_message": ["m"]}})
    redis.xadd(keys.reply(record[b"client"].decode()), {"task": task, "result": failed})
    stub.gate.set()
    np.testing.assert_array_equal(future.result(20), rows(["a"]))
