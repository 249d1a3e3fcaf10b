"""The message that the client makes by hand, and the one that Celery and kombu make."""

import json
from base64 import b64decode
from typing import Any

import pytest
from kombu import Connection
from redis import Redis

from bertq.broker import create_app
from bertq.queues import ENCODE_TASK
from bertq_client.message import Envelope

TEXTS = [
    "plain",
    "\u00fcml\u00e4ut \U0001f600",
    'quotes " and \\',
    "a lone \ud800 surrogate",
    "\0\n",
]


def sent_by_celery(url: str, redis: Redis, queue: str) -> Any:
    """What is on the queue after Celery has sent a chunk."""
    app = create_app(url)
    with Connection(url) as connection, app.amqp.Producer(connection) as producer:
        message = app.amqp.create_task_message(
            "job-0",
            ENCODE_TASK,
            [TEXTS],
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
def test_it_is_the_one_that_celery_sends(redis_url: str, redis: Redis, queue: str) -> None:
    theirs = json.loads(sent_by_celery(redis_url, redis, queue))
    mine = json.loads(Envelope("client").seal("job-0", TEXTS, queue))
    assert theirs["properties"].pop("delivery_tag")
    assert mine["properties"].pop("delivery_tag") == "job-0"
    assert mine == theirs
    assert json.loads(b64decode(mine["body"]))[0] == [TEXTS]


def test_it_shows_none_of_the_text(redis_url: str) -> None:
    message = json.loads(Envelope("client").seal("job-0", ["a secret"], "bertq"))
    del message["body"]
    assert "secret" not in json.dumps(message)
    assert message["headers"]["argsrepr"] == "(<1 sentences>,)"
