"""Messages and logs of errors of Redis."""

import logging

import pytest
from redis import Redis, RedisError, ResponseError
from redis.exceptions import ConnectionError, OutOfMemoryError

from bertq.errors import BertqError, RedisFull, RedisUnavailable
from bertq.redis.connection import connect, explain
from bertq.redis.outage import OutageLog, code, refuses_writes
from bertq.redis.primary import ReadOnlyServer
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


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", RedisFull),
        ("MISCONF Redis is configured to save RDB snapshots", RedisFull),
        ("READONLY You can't write against a read only replica.", RedisUnavailable),
    ],
)
def test_errors_of_commands_in_scripts_of_redis_6(
    redis_url: str, message: str, kind: type[BertqError]
) -> None:
    quoted = f"ERR Error running script (call to f_a9): @user_script:9: @user_script: 9: -{message}"
    with connect(redis_url) as redis, pytest.raises(RedisError) as caught:
        redis.eval("return redis.error_reply(ARGV[1])", 0, quoted)
    assert refuses_writes(caught.value)
    failure = explain(caught.value, redis_url)
    assert isinstance(failure.error, kind)
    assert not failure.final


def test_an_outage_of_several_callers_is_two_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bertq.worker")
    outage, error = OutageLog(logging.getLogger("bertq.worker"), "no tea"), OutOfMemoryError("")
    for caller in ("a", "b", "a"):
        outage.failed(error, caller)
    for caller in ("a", "b", "b"):
        outage.succeeded(caller)
    ends = [message.rpartition(" (")[2] for message in caplog.messages]
    assert ends == ["OutOfMemoryError): no tea", "was: no tea)"]


def test_an_unreachable_primary_of_sentinels_may_be_a_failover() -> None:
    refused = ConnectionError("Connection refused")
    refused.__cause__ = ConnectionRefusedError()
    for error in (refused, ReadOnlyServer("READONLY", "it is a replica")):
        message = str(explain(error, "sentinel://127.0.0.1:1/service/0").error)
        assert message.endswith("a failover may be in progress, try again")
        assert "BERTQ_REDIS_URL" not in message
    assert "Start a Redis" in str(explain(refused, "redis://127.0.0.1:1/0").error)
