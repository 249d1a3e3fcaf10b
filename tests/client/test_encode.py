"""encode() against a stub worker on a real server."""

import gc
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import (
    BadInputType,
    BadInputValue,
    BertqError,
    ModelMismatch,
    NoWorker,
    RedisUnavailable,
    RemoteError,
    SettingsError,
    Timeout,
    WireError,
)
from bertq.protocol import keys, wire
from bertq.protocol.wire import ChunkResult
from bertq.redis.primary import ReadOnlyServer
from bertq.state import jobs, worker_info
from bertq_client import inputs
from bertq_client.context import ClientTimings
from bertq_client.request import Request
from tests.client.stub import DIM, Stub, info, rows, stub_worker
from tests.waiting import eventually


def left_behind(redis: Redis) -> set[str]:
    """Return the remaining keys of bertq, except the permanent ones."""
    found = {key.decode() for key in redis.scan_iter("*")}
    return {key for key in found if key.startswith(("bertq:job", "bertq:reply", "celery-task"))}


def sentences(count: int) -> list[str]:
    """Distinct sentences of many lengths."""
    return [f"{index:05d} " + "x" * (index * 7 % 90) for index in range(count)]


def test_rows_come_in_order_and_nothing_stays(client: BertClient, stub: Stub, redis: Redis) -> None:
    texts = sentences(1000)
    vectors = client.encode(texts)
    assert vectors.dtype == np.float32
    assert vectors.flags.writeable
    np.testing.assert_array_equal(vectors, rows(texts))
    assert stub.chunks == [250, 250, 250, 250]
    client.close()
    assert left_behind(redis) == set()
    # A chunk is acknowledged a moment after its rows are stored.
    eventually(lambda: redis.hlen("unacked") == 0)


def test_small_requests_go_to_the_small_queue(redis_url: str, redis: Redis) -> None:
    with BertClient(redis_url=redis_url) as client:
        futures = [client.encode_async([f"{n}" for n in range(size)]) for size in (1, 16, 17)]
        eventually(lambda: redis.llen("bertq") == 1 and redis.llen("bertq.small"))
        assert all(redis.llen(queue) for queue in ("bertq", "bertq.small"))
        message: Any = redis.lindex("bertq", 0)
        assert b"<17 sentences>" in message
        assert not futures[0].done()
    with BertClient(redis_url=redis_url, queue="gpu3") as client:
        client.encode_async(["a"])
        eventually(lambda: redis.llen("gpu3") == 1)


def test_an_advertised_batch_size_lowers_the_chunks(redis_url: str) -> None:
    with stub_worker(redis_url, max_batch_size=10) as stub:
        with BertClient(redis_url=redis_url, timeout=30) as client:
            texts = sentences(95)
            np.testing.assert_array_equal(client.encode(texts), rows(texts))
        assert len(stub.chunks) == 10
        assert max(stub.chunks) == 10


def test_lists_instead_of_arrays(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url, output_fmt="list", timeout=30) as client:
        assert client.encode(["ab", "c"]) == rows(["ab", "c"]).tolist()


def test_one_client_in_many_threads(client: BertClient, stub: Stub) -> None:
    def work(number: int) -> None:
        for size in (1, 20, 3, 300):
            texts = [f"{number}-{text}" for text in sentences(size)]
            np.testing.assert_array_equal(client.encode(texts), rows(texts))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(32))) == [None] * 32


@pytest.mark.parametrize(
    ("texts", "error", "reason"),
    [
        ("a sentence", BadInputType, "texts is a str"),
        (b"bytes", BadInputType, "texts is a bytes"),
        ({"a", "b"}, BadInputType, "texts is a set"),
        ({"a"}, BadInputType, "texts is a set"),
        (None, BadInputType, "texts is a NoneType"),
        (np.array("a"), BadInputType, "texts is a ndarray"),
        ([], BadInputValue, "empty list"),
        (["a", 3], BadInputType, r"texts\[1\] is a int"),
        (["a", None], BadInputType, r"texts\[1\] is a NoneType"),
        (["a", ["b"]], BadInputType, r"texts\[1\] is a list"),
        (["a", b"b"], BadInputType, r"texts\[1\] is a bytes"),
        (["a", ""], BadInputValue, r"texts\[1\] is blank"),
        (["a", "b", " \n\t"], BadInputValue, r"texts\[2\] is blank"),
        (["x" * (10 * 2**20 + 1)], BadInputValue, r"texts\[0\] has 10485761 characters"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    redis_url: str, redis: Redis, texts: Any, error: type[Exception], reason: str
) -> None:
    with BertClient(redis_url=redis_url, timeout=5) as client:
        for call in (client.encode, client.encode_async):
            with pytest.raises(error, match=reason):
                call(texts)
    assert issubclass(error, (TypeError, ValueError))
    assert redis.dbsize() == 0


def test_a_bad_sentence_far_behind_comes_out_of_the_future(redis_url: str, redis: Redis) -> None:
    texts: list[object] = ["a"] * (inputs.PART_ROWS + 10)
    texts[-1] = 5
    with BertClient(redis_url=redis_url, timeout=20) as client:
        future = client.encode_async(texts)  # type: ignore[arg-type]
        with pytest.raises(BadInputType, match=rf"texts\[{inputs.PART_ROWS + 9}\] is a int"):
            future.result(20)
    assert redis.keys() == [b"bertq:epoch"]


def test_a_large_request_does_not_delay_a_small_one(redis_url: str, redis: Redis) -> None:
    with BertClient(redis_url=redis_url, timeout=60) as client:
        large = client.encode_async([f"{n}" for n in range(200_000)])
        small = client.encode_async(["y"])
        eventually(lambda: redis.llen("bertq.small"), 30)
        sent = int(redis.llen("bertq"))
        assert redis.llen("bertq.small") == 1
        assert sent < -(-200_000 // 256)
        assert not large.done()
        assert not small.done()


def test_the_list_may_be_changed_after_the_call(client: BertClient, stub: Stub) -> None:
    texts = ["abc", "d"]
    future = client.encode_async(texts)
    texts.clear()
    np.testing.assert_array_equal(future.result(30), rows(["abc", "d"]))


def test_a_failure_reaches_only_its_caller(client: BertClient, stub: Stub, redis: Redis) -> None:
    bad = client.encode_async([*sentences(300), "!fail"])
    good = client.encode_async(sentences(300))
    with pytest.raises(RemoteError, match="the stub was asked to fail") as caught:
        bad.result(30)
    assert caught.value.type_name == "ZeroDivisionError"
    assert caught.value.message == "the stub was asked to fail"
    assert keys.split_task_id(caught.value.task_id) is not None
    np.testing.assert_array_equal(good.result(30), rows(sentences(300)))
    np.testing.assert_array_equal(client.encode(["after"]), rows(["after"]))


def test_chunks_of_different_models_are_not_mixed(client: BertClient, stub: Stub) -> None:
    stub.fingerprints = ["f", "g"]
    with pytest.raises(ModelMismatch, match="different models"):
        client.encode(sentences(600))


def test_no_worker(redis_url: str, redis: Redis) -> None:
    with BertClient(redis_url=redis_url, timeout=1.5) as client:
        with pytest.raises(NoWorker, match=r"no worker takes from queue bertq\.small") as caught:
            client.encode(["a"])
        assert isinstance(caught.value, TimeoutError)
        # The client continues, and has taken the cancelled chunk off the queue.
        with stub_worker(redis_url) as stub:
            with BertClient(redis_url=redis_url, timeout=20) as other:
                other.encode(["b"])
            assert not stub.dropped
            assert stub.chunks == [1]
            np.testing.assert_array_equal(client.encode(["c"]), rows(["c"]))


def test_a_warning_names_the_models_that_have_workers(
    redis_url: str, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    with BertClient(redis_url=redis_url, model="absent") as client:
        future = client.encode_async(["a"])
        eventually(lambda: "whose workers have the models stub: waiting until one" in caplog.text)
        assert future.cancel()


def test_a_worker_that_starts_later_does_the_work(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with BertClient(redis_url=redis_url) as client:
        with caplog.at_level(logging.WARNING):
            futures = [client.encode_async(["one"]), client.encode_async(["two"])]
            eventually(lambda: "no worker takes" in caplog.text)
            time.sleep(0.2)
        warnings_seen = [record for record in caplog.records if "no worker" in record.message]
        assert len(warnings_seen) == 1
        with stub_worker(redis_url):
            np.testing.assert_array_equal(futures[1].result(30), rows(["two"]))
            np.testing.assert_array_equal(futures[0].result(30), rows(["one"]))


def test_a_slow_worker_is_a_timeout_and_the_client_stays_usable(
    redis_url: str, redis: Redis, stub: Stub
) -> None:
    stub.gate.clear()
    with BertClient(redis_url=redis_url, timeout=2) as client:
        with pytest.raises(Timeout, match=r"no answer within 2 s: 0 of 2 chunks") as caught:
            client.encode(sentences(300))
        assert not isinstance(caught.value, NoWorker)
        (job,) = redis.keys("bertq:job:*")
        eventually(lambda: redis.hget(job, "state") == jobs.CANCELLED)
        stub.gate.set()
        eventually(lambda: len(stub.dropped) == stub.asked > 0 and not redis.exists("bertq"))
        assert not stub.chunks
        np.testing.assert_array_equal(client.encode(["after"]), rows(["after"]))


def test_an_unreachable_redis() -> None:
    with BertClient("127.0.0.1", 1, _timings=ClientTimings(retry_seconds=0.3)) as client:
        with pytest.raises(RedisUnavailable, match=r"redis://127\.0\.0\.1:1/0 cannot be reached"):
            client.encode(["a"])
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            client.server_config  # noqa: B018 - reading it is the test
        with pytest.raises((Timeout, RedisUnavailable), match="cannot be reached"):
            BertClient("127.0.0.1", 1, timeout=0.2).encode(["a"])


def test_an_unreachable_redis_is_a_warning_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), BertClient("127.0.0.1", 1, timeout=60) as client:
        futures = [client.encode_async(["a"]), client.encode_async(["b"] * 20)]
        eventually(lambda: "trying again" in caplog.text)
        time.sleep(0.2)
        assert caplog.text.count("is away (ConnectionError): trying again") == 1
        assert not any(future.done() for future in futures)


def test_an_outage_of_writes_is_one_warning(
    client: BertClient, caplog: pytest.LogCaptureFixture
) -> None:
    directory = client.worker_directory
    for _ in range(3):
        directory.note_failure(ReadOnlyServer("NOREPLICAS", "not enough good replicas"))
        directory.refresh()  # Redis can be read
    (message,) = caplog.messages
    assert message.endswith(" takes no writes (NOREPLICAS): trying again")


def test_a_refused_login_is_no_reason_to_try_again(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = redis_url.replace("redis://", "redis://nobody:secret@")
    with BertClient(redis_url=url, timeout=60) as client, pytest.raises(RedisUnavailable):
        client.encode(["a"])
    assert "trying again" not in caplog.text


def test_requests_wait_for_an_unreachable_redis_together() -> None:
    with BertClient("127.0.0.1", 1, _timings=ClientTimings(retry_seconds=0.5)) as client:
        futures = [client.encode_async(["a"]) for _ in range(30)]
        # Sequentially they would take 15 s.
        assert wait(futures, timeout=10).not_done == set()
        assert {type(future.exception()) for future in futures} == {RedisUnavailable}


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
def test_rows_too_large_to_store_are_an_error_of_their_caller(
    redis_url: str, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertq_workers.celery_compat.backend.MAX_PAYLOAD_BYTES", 2000)
    with BertClient(redis_url=redis_url, timeout=30) as client:
        with pytest.raises(RemoteError, match="WireError: the rows of the chunk take"):
            client.encode(sentences(200))
        assert client.encode(["small"]).shape == (1, DIM)


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
def test_a_worker_that_may_not_answer_continues(redis_url: str, redis: Any) -> None:
    name = f"mute{redis.connection_pool.connection_kwargs['db']}"
    redis.execute_command("ACL", "SETUSER", name, "on", ">pw", "~*", "&*", "+@all", "-xadd")
    try:
        with (
            stub_worker(redis_url.replace("redis://", f"redis://{name}:pw@")) as stub,
            BertClient(redis_url=redis_url, timeout=1.5) as client,
        ):
            for _ in range(2):
                with pytest.raises(Timeout):
                    client.encode(["a"])
            assert stub.chunks == [1, 1]
    finally:
        redis.execute_command("ACL", "DELUSER", name)


def test_a_login(redis_url: str, redis: Any) -> None:
    name = f"user{redis.connection_pool.connection_kwargs['db']}"
    redis.execute_command("ACL", "SETUSER", name, "on", ">p@ss/word", "~*", "&*", "+@all")
    url = redis_url.replace("redis://", f"redis://{name}:p%40ss%2Fword@")
    try:
        with stub_worker(url), BertClient(redis_url=url, timeout=20) as client:
            np.testing.assert_array_equal(client.encode(["a"]), rows(["a"]))
            assert "ss" not in repr(client)
    finally:
        redis.execute_command("ACL", "DELUSER", name)


def test_a_refused_login_is_final(redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis://me:secret@")
    with (
        BertClient(redis_url=url) as client,
        pytest.raises(RedisUnavailable, match="refuses the login") as caught,
    ):
        client.encode(["a"])
    assert "secret" not in str(caught.value)


def test_an_unreferenced_client_ends_its_threads(redis: Redis, redis_url: str, stub: Stub) -> None:
    redis.script_flush()  # a first command fails, and nothing may refer to its error
    gc.collect()
    before = set(threading.enumerate())
    client = BertClient(redis_url=redis_url)
    client.encode(["a"])
    mine = set(threading.enumerate()) - before
    assert {t.name for t in mine} == {"bertq-sender", "bertq-gatherer"}
    del client
    eventually(lambda: not any(t.is_alive() for t in mine))


def test_a_lost_connection_loses_no_result(
    client: BertClient, stub: Stub, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    stub.gate.clear()
    future = client.encode_async(sentences(700))
    time.sleep(0.3)
    redis.client_kill_filter(_type="normal", skipme=True)
    stub.gate.set()
    np.testing.assert_array_equal(future.result(60), rows(sentences(700)))


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"\x80\x04junk", WireError),
        (b"", WireError),
        (wire.dumps([1, 2]), WireError),
        (wire.dumps({"status": "SUCCESS", "result": "x"}), WireError),
        (wire.dumps({"status": "PENDING", "result": None}), WireError),
        (
            wire.dumps(
                {
                    "status": "SUCCESS",
                    "result": ChunkResult(np.ones((9, 2)), "f").to_wire(),
                }
            ),
            WireError,
        ),
    ],
)
def test_a_hostile_result_is_a_clear_error(
    redis_url: str, redis: Redis, payload: bytes, error: type[Exception]
) -> None:
    worker_info.publish(redis, info(["bertq.small"]))
    with BertClient(redis_url=redis_url, timeout=20) as client:
        future = client.encode_async(["a"])
        eventually(lambda: redis.llen("bertq.small"))
        (job_key,) = redis.scan_iter("bertq:job:*")
        task_id = keys.task_id(job_key.decode().removeprefix("bertq:job:"), 0)
        stream = keys.reply(redis.hget(job_key, "client").decode())  # type: ignore[union-attr]
        redis.xadd(stream, {"other": b"\xff"})
        redis.xadd(stream, {"task": b"\xff\xfe"})
        redis.set(keys.result(task_id), payload)
        redis.xadd(stream, {"task": task_id})
        with pytest.raises(error):
            future.result(20)


def test_server_config(redis_url: str, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    with BertClient(redis_url=redis_url, show_server_config=True) as client:
        config = client.server_config["stub@test"]
    assert config["queues"] == ["bertq", "bertq.small"]
    assert config["row_shape"] == [DIM]
    assert '"model": "stub"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        {"output_fmt": "tensor"},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "5"},
        {"timeout": True},
        {"timeout": float("nan")},
        {"timeout": 10**400},
        {"queue": "gpux"},
        {"redis_url": "http://h"},
        {"port": 0},
        {"ip": ""},
    ],
)
def test_wrong_arguments_of_the_client(arguments: dict[str, object]) -> None:
    with pytest.raises(
        SettingsError, match=next(iter(arguments)).replace("queue", "queue is named")
    ):
        BertClient(**arguments)  # type: ignore[call-overload]


def test_the_address_comes_from_arguments_or_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BERTQ_REDIS_URL", "redis://:pw@from-env/5")
    assert repr(BertClient()) == "<BertClient redis://:**@from-env/5>"
    assert repr(BertClient("other")) == "<BertClient redis://other:6379/0>"
    assert repr(BertClient(redis_url="redis://h")) == "<BertClient redis://h/0>"
    monkeypatch.delenv("BERTQ_REDIS_URL")
    assert repr(BertClient(port=6380)) == "<BertClient redis://localhost:6380/0>"


def test_celery_variables_of_the_host_program_do_not_matter(
    redis_url: str, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BertClient(redis_url=redis_url, timeout=20) as client:
        client.encode(["the stub lives in this process, and has set itself up now"])
    monkeypatch.setitem(os.environ, "CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setitem(os.environ, "CELERY_RESULT_BACKEND", "db+sqlite:///x")
    with BertClient(redis_url=redis_url, timeout=20) as client:
        np.testing.assert_array_equal(client.encode(["a"]), rows(["a"]))


def test_requests_out_of_bounds(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BertClient(redis_url=redis_url, timeout=20) as client:
        with pytest.raises(BadInputValue, match=r"texts\[1\] has 104857600 characters: at most"):
            client.encode(["a", "b" * 100 * 2**20])
        monkeypatch.setattr(inputs, "MAX_REQUEST_ROWS", 3)
        with pytest.raises(BadInputValue, match="4 sentences: a request may have 3"):
            client.encode(["a"] * 4)
        monkeypatch.setattr(inputs, "MAX_REQUEST_CHARACTERS", 10)
        with pytest.raises(BadInputValue, match="more than 10 characters: send it in several"):
            client.encode(["abcdef", "ghijkl"])
        assert not redis.exists("bertq", "bertq.small")


def test_no_memory_for_lists_of_numbers(
    client: BertClient, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Request, answer: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Request, "succeed", fail)
        with pytest.raises(BertqError, match="no rows: MemoryError"):
            client.encode(["a"])
    np.testing.assert_array_equal(client.encode(["a"]), rows(["a"]))
