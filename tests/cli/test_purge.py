"""``bertq purge`` removes waiting chunks, and their callers get an error."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from bertq import BertClient
from bertq.errors import RedisUnavailable, RemoteError, SettingsError
from bertq.state.purge import ERROR_NAME
from bertq_cli.commands.purge import purge_queue
from tests.conftest import StartServer
from tests.security.roles import Guarded
from tests.waiting import eventually


def run(*arguments: str, input: str = "") -> Result:
    return CliRunner().invoke(purge_queue, arguments, input=input, catch_exceptions=False)


def test_callers_get_an_error_and_nothing_is_left(redis: Redis, redis_url: str) -> None:
    with BertClient(redis_url=redis_url, queue="gpu7") as client:
        texts = [f"text {number}" for number in range(10_000)]
        job = client.submit(texts)  # first: beside many waiting chunks it would send only some
        large = client.encode_async(texts)
        small = [client.encode_async([text]) for text in texts[:20]]
        redis.lpush("gpu7", "not a message", json.dumps({"headers": 3}), "[" * 9999)
        # Three messages, 40 chunks of the large request, 40 of the job, and the small ones.
        eventually(lambda: redis.llen("gpu7") > 83)
        shown = run("gpu7", "--redis-url", redis_url, "--yes")
        assert shown.exit_code == 0
        assert "from queue gpu7" in shown.output
        assert ERROR_NAME in shown.output
        for future in (large, *small):
            error = future.exception(10)
            assert isinstance(error, RemoteError)
            assert error.type_name == ERROR_NAME
            assert "gpu7" in error.message
        assert job.status == "failed"
        with pytest.raises(RemoteError, match=ERROR_NAME):
            job.result(10)
        assert redis.llen("gpu7") == 0


def test_a_cancelled_request_gets_no_answer(redis: Redis, redis_url: str) -> None:
    with BertClient(redis_url=redis_url, queue="gpu7") as client:
        client.encode_async(["a"])
        eventually(lambda: redis.llen("gpu7") == 1)
        redis.hset(redis.keys("bertq:job:*")[0], "state", "cancelled")
        shown = run("gpu7", "--redis-url", redis_url, "--yes")
        assert "removed 1 chunk from queue gpu7: 0 of active requests" in shown.output
        assert not redis.keys("celery-task-meta-*")


def test_it_asks_first(redis: Redis, redis_url: str) -> None:
    redis.lpush("bertq.small", "one", "two")
    shown = run("bertq.small", "--redis-url", redis_url, input="n\n")
    assert shown.exit_code == 1
    assert "2 chunks on queue bertq.small of" in shown.output
    assert "no worker of the queue" in shown.output
    assert redis.llen("bertq.small") == 2
    assert "removed 2 chunks" in run("bertq.small", "--redis-url", redis_url, input="y\n").output
    shown = run("bertq.small", "--redis-url", redis_url)
    assert (shown.exit_code, "no chunk waits" in shown.output) == (0, True)


def test_only_queues_of_bertq_are_purged(redis: Redis, redis_url: str) -> None:
    redis.lpush("other", "x")
    with pytest.raises(SettingsError, match="no queue is named 'other'"):
        run("other", "--redis-url", redis_url, "--yes")
    assert redis.llen("other") == 1


def test_it_needs_the_rights_of_a_worker(start_own_server: StartServer, tmp_path: Path) -> None:
    guarded = Guarded(start_own_server, tmp_path)
    with BertClient(redis_url=guarded.url("client"), queue="gpu7") as client:
        future = client.encode_async(["a"])
        eventually(lambda: guarded.admin.llen("gpu7") == 1)
        with pytest.raises(RedisUnavailable, match=r"docs/users\.acl"):
            run("gpu7", "--redis-url", guarded.url("client"), "--yes")
        assert (
            "removed 1 chunk" in run("gpu7", "--redis-url", guarded.url("worker"), "--yes").output
        )
        assert isinstance(future.exception(10), RemoteError)
    guarded.admin.close()


def test_requests_that_share_a_chunk_are_not_sent_again(redis: Redis, redis_url: str) -> None:
    with BertClient(redis_url=redis_url, queue="gpu7") as client:
        futures = [client.encode_async(["first"])]
        eventually(lambda: redis.llen("gpu7") == 1)
        redis.client_pause(300)  # meanwhile requests accumulate
        futures += [client.encode_async([f"text {number}"]) for number in range(6)]
        time.sleep(0.5)
        assert 1 < redis.llen("gpu7") < 7
        run("gpu7", "--redis-url", redis_url, "--yes")
        assert {type(future.exception(10)) for future in futures} == {RemoteError}
        assert redis.llen("gpu7") == 0
