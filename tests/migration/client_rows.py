"""Rows of the client: how it is made, and its errors."""

import asyncio
import io
import json
import logging
import threading
import time
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import (
    BadInputType,
    BadInputValue,
    ClientClosed,
    NoWorker,
    SettingsError,
    Timeout,
    TruncationWarning,
)
from bertq.state import worker_info
from tests.migration.deployment import LONG, TEXTS, Deployment
from tests.migration.rows import row


@row("BertClient()")
def nothing_happens_until_it_is_used(deployment: Deployment) -> None:
    before = threading.active_count()
    client = BertClient(port=1)  # no server there
    assert threading.active_count() == before
    client.close()
    with deployment.client() as client:
        for _ in range(2):
            assert client.encode(TEXTS).shape == (3, 32)
            # The connection is lost, and it notices nothing.
            with Redis.from_url(deployment.url) as redis:
                redis.client_kill_filter(_type="normal", skipme=True)


@row("BertClient('host', 5555, 5556)", "ip='localhost'")
def the_address(deployment: Deployment) -> None:
    with BertClient("127.0.0.1", deployment.port, timeout=60) as client:
        assert client.encode(TEXTS).shape == (3, 32)
    with BertClient(ip="localhost", port=deployment.port) as client:
        assert (client.status["server_ip"], client.status["port"]) == ("localhost", deployment.port)
    with pytest.raises(TypeError, match="positional arguments"):
        BertClient("127.0.0.1", deployment.port, 5556)  # type: ignore[call-overload]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTQ_REDIS_URL", deployment.url)
        with BertClient(timeout=60) as client:
            assert client.encode(TEXTS).shape == (3, 32)


@row("output_fmt='ndarray'", "output_fmt='list'")
def formats(deployment: Deployment) -> None:
    with deployment.client() as client:
        array = client.encode(TEXTS)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    with deployment.client(output_fmt="list") as client:
        assert client.encode(TEXTS) == array.tolist()
        assert client.encode_async(TEXTS).result() == array.tolist()
        (batch,) = client.encode_stream(TEXTS)
        assert batch.vectors == array.tolist()


@row("show_server_config=False", "show_server_config=True, the default")
def the_config_is_printed_on_request(deployment: Deployment) -> None:
    with redirect_stdout(io.StringIO()) as shown, deployment.client() as client:
        client.encode(TEXTS)
    assert shown.getvalue() == ""
    with (
        redirect_stdout(io.StringIO()) as shown,
        deployment.client(show_server_config=True) as client,
    ):
        config = client.server_config
    assert set(json.loads(shown.getvalue())) == set(config)
    assert len(config) == 4


@row("identity=None")
def the_name(deployment: Deployment) -> None:
    with deployment.client(identity="me@desk-1") as client:
        client.encode(TEXTS)
        assert client.identity == client.status["identity"] == "me@desk-1"
    with deployment.client() as one, deployment.client() as other:
        assert one.identity != other.identity
    for name in (b"bytes", "", "x" * 65, "a b"):
        with pytest.raises(SettingsError, match="identity must be of 1 to 64"):
            deployment.client(identity=name)


@row("check_version=True")
def another_version(deployment: Deployment) -> None:
    with Redis.from_url(deployment.url) as redis:
        (info,) = (a for a in worker_info.read(redis) if a.model_name == "tokens")
        document = json.loads(json.dumps(info, default=vars))
        document |= {"node": "old@host", "model_name": None, "queues": ["bertq.tokens.small"]}
        document["versions"]["bertq"] = "0.0.1"
        redis.set("bertq:worker:old@host", json.dumps(document), ex=60)
        redis.zadd("bertq:workers", {"old@host": 1})
        try:
            said = [warnings_of(deployment, check_version=value) for value in (True, False)]
        finally:
            redis.zrem("bertq:workers", "old@host")
            redis.delete("bertq:worker:old@host")
    assert [line.count("old@host") for line in said] == [1, 0], said
    assert "has bertq 0.0.1, this client " in said[0]


def warnings_of(deployment: Deployment, **options: Any) -> str:
    """What a client logs in two requests."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logger = logging.getLogger("bertq")
    logger.addHandler(handler)
    try:
        with deployment.client(model="tokens", **options) as client:
            client.encode(TEXTS)
            client.encode(TEXTS)
    finally:
        logger.removeHandler(handler)
    return "\n".join(lines)


@row("check_length=True")
def lengths(deployment: Deployment) -> None:
    # Eleven words, and as many wordpieces as are read and more.
    long = "xylophones " * 11
    with deployment.client() as client:
        with pytest.warns(TruncationWarning) as caught:
            client.encode([*TEXTS, LONG, long])
        assert len(caught) == 1
        assert "cut, 2 of 5 sentences" in str(caught[0].message)
        client.encode(TEXTS)  # warnings are errors in these tests
    with deployment.client(check_length=False) as client:
        client.encode([LONG])


@row("timeout=-1")
def seconds(deployment: Deployment) -> None:
    for wrong in (-1, 0, "5"):
        with pytest.raises(SettingsError, match="timeout must be a number of seconds above zero"):
            deployment.client(timeout=wrong)
    with BertClient() as client:
        assert client.status["timeout"] is None
    with deployment.client(model="nobody", timeout=0.5) as client:
        began = time.monotonic()
        with pytest.raises(NoWorker):
            client.encode(TEXTS)
        assert 0.4 < time.monotonic() - began < 5
        client.encode(TEXTS, blocking=False)
        with pytest.raises(Timeout):
            client.fetch_all()


@row("with BertClient() as bc", "close()")
def the_end_of_a_client(deployment: Deployment) -> None:
    with deployment.client() as client:
        client.encode(TEXTS)
    with pytest.raises(ClientClosed):
        client.encode(TEXTS)
    client.close()

    async def coroutine() -> Any:
        async with deployment.client() as client:
            return await client.encode_async(TEXTS)

    assert asyncio.run(coroutine()).shape == (3, 32)
    other = deployment.client(model="nobody")
    future = other.encode_async(TEXTS)
    other.close()
    with pytest.raises(ClientClosed):
        future.result(10)


@row("TypeError", "ValueError", "AttributeError")
def wrong_input(deployment: Deployment) -> None:
    with deployment.client() as client:
        for wrong in ("the lord", {"the", "lord"}, [1], [["the"]], None):
            with pytest.raises(TypeError) as caught:
                client.encode(wrong)  # type: ignore[arg-type]
            assert isinstance(caught.value, BadInputType)
            assert not isinstance(caught.value, AttributeError)
        for empty in ([], [""], ["the", " \n"]):
            with pytest.raises(ValueError, match="texts") as refused:
                client.encode(empty)
            assert isinstance(refused.value, BadInputValue)
        assert client.status["num_request"] == 0
    with pytest.raises(SettingsError, match="must be 'ndarray' or 'list'") as error:
        deployment.client(output_fmt="tuple")
    assert isinstance(error.value, ValueError)
    assert not isinstance(error.value, AttributeError)


@row("TimeoutError")
def too_late(deployment: Deployment) -> None:
    for model, kind in (("nobody", NoWorker), (None, Timeout)):
        with deployment.client(model=model, timeout=0.001) as client:
            with pytest.raises(TimeoutError) as caught:
                client.encode(TEXTS * 1000)
            assert isinstance(caught.value, kind if model is None else Timeout)
