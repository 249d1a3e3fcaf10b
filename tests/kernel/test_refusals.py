"""Messages and logs of errors of Redis."""

import logging

import pytest
from redis import Redis, ResponseError
from redis.exceptions import OutOfMemoryError

from bertq.redis.outage import OutageLog, code, refuses_writes
from tests.conftest import StartServer


def test_an_error_code_contains_nothing_that_was_sent(start_own_server: StartServer) -> None:
    port = start_own_server(**{"min-replicas-to-write": 1}).port
    with (
        Redis(port=port) as redis,
        redis.pipeline() as pipe,
        pytest.raises(ResponseError) as caught,
    ):
        pipe.lpush("q", "SECRET caused error: SECRET").execute()
    assert "SECRET" in str(caught.value)
    assert code(caught.value) == "NOREPLICAS"
    assert refuses_writes(caught.value)
    assert code(ResponseError("unknown command")) == "ResponseError"
    assert not refuses_writes(ResponseError("unknown command"))
    assert code(OutOfMemoryError("SECRET")) == "OutOfMemoryError"


def test_an_outage_of_several_callers_is_two_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bertq.worker")
    outage, error = OutageLog(logging.getLogger("bertq.worker"), "no tea"), OutOfMemoryError("")
    for caller in ("a", "b", "a"):
        outage.failed(error, caller)
    for caller in ("a", "b", "b"):
        outage.succeeded(caller)
    assert [message[-6:] for message in caplog.messages] == ["no tea", "no tea"]
