"""Requests as ``celery inspect`` shows them: without sentences."""

from types import SimpleNamespace
from typing import Any

from celery import Celery

from bertq.config.celery_config import configuration
from bertq.protocol.queues import ENCODE_TASK
from bertq_workers.celery_compat.request import ChunkRequest


def test_a_request_shows_no_sentence() -> None:
    app = Celery("bertq", set_as_current=False)
    app.config_from_object(configuration("redis://127.0.0.1:1/0"))

    @app.task(name=ENCODE_TASK, shared=False)
    def task(texts: Any, options: Any = None) -> None: ...

    headers = {
        "id": "a-0", "task": ENCODE_TASK, "argsrepr": "(<1 sentences>,)", "kwargsrepr": "{}",
        "lang": "py",
    }  # fmt: skip
    body: Any = [[["a secret"], {"prompt": "hidden"}], {}, {}]
    message: Any = SimpleNamespace(
        delivery_info={}, properties={}, headers=headers, payload=body,
        content_type="application/json", content_encoding="utf-8",
    )  # fmt: skip
    made: Any = ChunkRequest
    request = made(message, headers=headers, decoded=False, body=b"encoded", task=task, app=app)
    for shown in (request.info(), request.info(safe=False), request.info(safe=True)):
        assert "secret" not in str(shown)
        assert "hidden" not in str(shown)
        assert shown["args"] == "(<1 sentences>,)"


def test_the_task_has_such_requests() -> None:
    from bertq_workers.tasks import encode

    task: Any = encode
    assert task.Request == f"{ChunkRequest.__module__}:{ChunkRequest.__name__}"
