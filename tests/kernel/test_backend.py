"""The result backend, and the parts of celery's inside that it stands on."""

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from celery import Celery
from celery.app import trace
from celery.app.task import Context
from celery.backends.base import Backend
from celery.backends.redis import RedisBackend
from celery.utils.serialization import (
    UnpickleableExceptionWrapper,
    get_pickleable_exception,
)
from celery.worker import state
from redis import ConnectionError, Redis, ResponseError
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from bertq.protocol import keys, time_to_live, wire
from bertq.protocol.wire import ChunkResult
from bertq.state.results import SMALL_RESULT_BYTES
from bertq_workers.celery_compat.backend import ReplyBackend
from bertq_workers.celery_compat.failures import summarize
from tests.apps import create_app


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    made = create_app(redis_url)
    yield made
    made.backend.client.close()  # type: ignore[attr-defined]  # the stubs know no Redis backend
    made.close()


@pytest.fixture
def backend(app: Celery) -> ReplyBackend:
    assert isinstance(app.backend, ReplyBackend)
    return app.backend


def test_celery_still_calls_what_is_overridden() -> None:
    stored = inspect.signature(RedisBackend._store_result)  # type: ignore[attr-defined]
    mine = inspect.signature(ReplyBackend._store_result)
    assert list(stored.parameters)[:6] == list(mine.parameters)[:6]
    source = inspect.getsource(Backend.store_result)
    assert "self.encode_result(result, state)" in source
    assert "self._store_result" in source
    encode = inspect.getsource(Backend.encode_result)
    assert "self.prepare_exception(result)" in encode
    assert "self.prepare_value(result)" in encode
    assert "self.backend.on_task_call" in inspect.getsource(Celery.send_task)


def test_rows_are_stored_once_with_a_notice(backend: ReplyBackend, redis: Redis) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    backend.mark_as_done("job-0", ChunkResult(rows, "f"), Context(id="job-0", reply_to="client"))
    payload: Any = redis.get(keys.result("job-0"))
    meta = wire.loads(payload)
    assert (meta["status"], meta["task_id"]) == ("SUCCESS", "job-0")
    np.testing.assert_array_equal(ChunkResult.from_wire(meta["result"]).rows, rows)
    stream: Any = redis.xrange(keys.reply("client"))
    # A small result comes along.
    assert [fields for _, fields in stream] == [{b"task": b"job-0", b"result": payload}]
    for key in (keys.result("job-0"), keys.reply("client")):
        assert 0 < int(redis.ttl(key)) <= time_to_live.RESULT_SECONDS


def test_a_large_result_is_stored_once(backend: ReplyBackend, redis: Redis) -> None:
    rows = np.zeros((SMALL_RESULT_BYTES // 4, 1), np.float32)
    backend.mark_as_done("job-0", ChunkResult(rows, "f"), Context(id="job-0", reply_to="client"))
    assert redis.exists(keys.result("job-0"))
    stream: Any = redis.xrange(keys.reply("client"))
    assert [fields for _, fields in stream] == [{b"task": b"job-0"}]


def test_celery_reads_the_state_of_a_result(backend: ReplyBackend, app: Celery) -> None:
    rows = np.ones((1, 2), np.float32)
    backend.mark_as_done("job-0", ChunkResult(rows, "f"), Context(id="job-0", reply_to="client"))
    assert app.AsyncResult("job-0").state == "SUCCESS"
    assert app.AsyncResult("job-1").state == "PENDING"


def test_an_error_is_a_name_and_one_line(backend: ReplyBackend, redis: Redis) -> None:
    error = UnicodeEncodeError(
        "utf-8", "a secret sentence \ud800", 18, 19, "surrogates\nnot allowed"
    )
    backend.mark_as_failure("job-0", error, "a traceback", Context(id="job-0", reply_to="client"))
    payload: Any = redis.get(keys.result("job-0"))
    assert b"secret" not in payload
    assert b"traceback" in payload
    meta = wire.loads(payload)
    assert meta["traceback"] is None
    assert meta["result"]["exc_type"] == "UnicodeEncodeError"
    (message,) = meta["result"]["exc_message"]
    assert "\n" not in message


class NeedsTwo(Exception):
    """It cannot be unpickled: its constructor has two arguments, ``args`` only one."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def test_an_error_that_celery_wraps_keeps_its_name(backend: ReplyBackend, redis: Redis) -> None:
    wrapped = get_pickleable_exception(NeedsTwo(1, 2))
    assert type(wrapped) is UnpickleableExceptionWrapper
    backend.mark_as_failure("job-0", wrapped, "", Context(id="job-0"))
    payload: Any = redis.get(keys.result("job-0"))
    result = wire.loads(payload)["result"]
    assert (result["exc_type"], result["exc_message"]) == ("NeedsTwo", ["1 and 2"])


def test_which_errors_are_retried(backend: ReplyBackend) -> None:
    assert backend.exception_safe_to_retry(OutOfMemoryError("maxmemory"))
    assert backend.exception_safe_to_retry(ReadOnlyError("a replica"))
    assert backend.exception_safe_to_retry(ConnectionError("away"))
    assert not backend.exception_safe_to_retry(ResponseError("no permission"))
    source = inspect.getsource(Backend._ensure_retryable)  # type: ignore[attr-defined]
    assert "self.exception_safe_to_retry(exc)" in source


def test_the_tracer_gets_an_exception_for_its_report(backend: ReplyBackend) -> None:
    error = ValueError("x")
    assert isinstance(backend.prepare_exception(error, "pickle"), ValueError)
    assert "prepare_exception(exc, 'pickle')" in inspect.getsource(trace.report_internal_error)


def test_celery_still_has_the_state_of_a_stopping_worker() -> None:
    source = inspect.getsource(state.maybe_shutdown)
    for name in ("should_stop", "should_terminate"):
        assert f"if {name} is not None and {name} is not False:" in source


def test_messages_are_bounded() -> None:
    assert summarize(ValueError("a\n  b")) == "a b"
    assert len(summarize(ValueError("x" * 10_000))) < 600


def test_the_result_of_a_task_without_a_reply_stream_is_stored(
    backend: ReplyBackend, redis: Redis
) -> None:
    backend.mark_as_done("other", 5, Context(id="other"))
    assert redis.exists(keys.result("other"))
    assert list(redis.scan_iter("bertq:reply:*")) == []
