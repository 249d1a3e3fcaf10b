"""Adverts of workers and records of jobs, on a real server."""

import dataclasses
import json
import time
from functools import partial

import pytest
from redis import Redis, ResponseError

from bertq.protocol import keys, time_to_live
from bertq.state import claims, counters, jobs, worker_info
from tests import records
from tests.client.stub import info


def test_a_worker_info_expires_after_its_worker(redis: Redis) -> None:
    mine = info(["gpu0", "bertq"])
    assert worker_info.read(redis) == []
    worker_info.publish(redis, mine)
    assert worker_info.read(redis) == [mine]
    assert 0 < int(redis.ttl(keys.worker(mine.node))) <= time_to_live.WORKER_SECONDS
    assert int(redis.ttl(keys.WORKERS)) > 0
    successor = dataclasses.replace(mine, instance="2")
    worker_info.publish(redis, successor)
    worker_info.withdraw(redis, mine)
    assert worker_info.read(redis) == [successor]
    worker_info.withdraw(redis, successor)
    assert worker_info.read(redis) == []
    assert redis.dbsize() == 0


def test_a_dead_worker_is_removed(redis: Redis) -> None:
    mine, dead = info(["bertq"]), dataclasses.replace(info(["bertq"]), node="dead@test")
    worker_info.publish(redis, mine)
    redis.zadd(keys.WORKERS, {dead.node: 1.0})
    assert worker_info.read(redis) == [mine]
    assert redis.zscore(keys.WORKERS, dead.node) is None


def test_a_fast_clock_does_not_remove_a_worker(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = info(["bertq"])
    worker_info.publish(redis, mine)
    redis.zadd(keys.WORKERS, {"dead@test": 1.0})
    monkeypatch.setattr(time, "time", lambda: 1e10)
    for _ in range(2):
        assert worker_info.read(redis) == [mine]


def test_a_worker_info_of_another_version(redis: Redis) -> None:
    mine = info(["bertq"])
    worker_info.publish(redis, mine)
    more = {**dataclasses.asdict(mine), "colour": "green"}
    redis.set(keys.worker(mine.node), json.dumps(more))
    assert worker_info.read(redis) == [mine]
    for text in (b"{}", b"[]", b"no json", b'"x"'):
        redis.set(keys.worker(mine.node), text)
        assert worker_info.read(redis) == []


def test_the_worker_info_of_an_older_worker_is_read(redis: Redis) -> None:
    mine = info(["bertq"])
    worker_info.publish(redis, mine)
    newer = {
        "description", "task", "normalized", "prompts", "default_prompt", "similarity", "labels",
        "activation",
    }  # fmt: skip
    older = {name: value for name, value in dataclasses.asdict(mine).items() if name not in newer}
    redis.set(keys.worker(mine.node), json.dumps(older))
    assert worker_info.read(redis) == [mine]
    assert mine.meaning == "REDUCE_MEAN of -2, max_seq_len 25, float32"


def test_a_worker_info_describes_the_model(redis: Redis) -> None:
    mine = dataclasses.replace(
        info(["bertq"]),
        description="mean of the last layer, 256 tokens, L2-normalized (from modules.json)",
        normalized=True,
        prompts=["query", "document"],
        default_prompt="query",
        similarity="cosine",
    )
    worker_info.publish(redis, mine)
    assert worker_info.read(redis) == [mine]
    assert mine.meaning == f"{mine.description}, float32"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("description", None), ("task", 1), ("normalized", "yes"), ("prompts", "query"),
        ("prompts", [1]), ("prompts", {"query": "query: "}), ("default_prompt", 0),
        ("similarity", ["cosine"]), ("labels", None), ("labels", [0]), ("model_name", 0),
    ],
)  # fmt: skip
def test_a_worker_info_with_a_wrong_type_is_ignored(redis: Redis, name: str, value: object) -> None:
    mine = info(["bertq"])
    worker_info.publish(redis, mine)
    redis.set(keys.worker(mine.node), json.dumps({**dataclasses.asdict(mine), name: value}))
    assert worker_info.read(redis) == []


def test_row_bytes() -> None:
    mine = info(["bertq"])
    assert mine.row_bytes == 16
    assert dataclasses.replace(mine, row_shape=[None, 10]).row_bytes == 4 * 25 * 10


def create_job(redis: Redis, *, chunks: int = 1) -> None:
    records.write(redis, "j", rows=5, chunks=chunks)


def test_a_job_is_active_until_it_is_cancelled_or_expired(redis: Redis) -> None:
    assert not jobs.read(redis, "j").is_active
    create_job(redis, chunks=3)
    assert jobs.read(redis, "j") == jobs.JobRecord(is_active=True, chunks=3, fingerprint=None)
    redis.expire(keys.job("j"), 5)
    assert jobs.renew(redis, ["j", "other"]) == ["other"]
    assert int(redis.ttl(keys.job("j"))) > 5
    jobs.cancel(redis, "j")
    assert not jobs.read(redis, "j").is_active
    assert int(redis.ttl(keys.job("j"))) > 0
    jobs.discard(redis, ["j"])
    assert not redis.exists(keys.job("j"))


def test_a_job_is_written_with_a_chunk(redis: Redis) -> None:
    create = partial(jobs.create, redis, "j", client="c", queue="gpu0", rows=9, chunks=1)
    assert create(message="text") == 1
    assert jobs.read(redis, "j").is_active
    redis.hset(keys.job("j"), "fingerprint", "mine")
    assert create(message="again") == 2
    assert redis.lrange("gpu0", 0, -1) == [b"again", b"text"]
    assert jobs.read(redis, "j").fingerprint == "mine"
    assert 0 < int(redis.ttl(keys.job("j"))) <= time_to_live.JOB_SECONDS


def test_requests_are_counted_when_they_are_sent(redis: Redis) -> None:
    counter = counters.RequestCounter("c")
    counter.send(redis)
    assert not redis.exists(keys.TOTALS)
    for number in range(1500):
        counter.add(f"gpu{number % 2}", 2)
    counter.send(redis)
    counter.send(redis)
    counted = counters.read(redis)
    assert (counted["num_data_request"], counted["num_total_seq"]) == (1500, 3000)
    assert counted["avg_request_per_client"] == counters.LATEST_REQUESTS
    assert redis.zrange(keys.QUEUES, 0, -1) == [b"gpu0", b"gpu1"]


def test_requests_that_cannot_be_counted_are_counted_later(redis: Redis) -> None:
    counter = counters.RequestCounter("c")
    counter.add("bertq", 3)
    redis.set(keys.TOTALS, "no hash")
    with pytest.raises(ResponseError):
        counter.send(redis)
    redis.delete(keys.TOTALS, keys.REQUESTS)
    counter.add("bertq", 4)
    counter.send(redis)
    counted = counters.read(redis)
    assert (counted["num_data_request"], counted["num_total_seq"]) == (2, 7)
    assert counted["max_last_two_interval"] >= 0


def test_the_first_answer_pins_the_model_of_a_job(redis: Redis) -> None:
    create_job(redis)
    assert jobs.pin(redis, "j", "bertq", "mine") == "mine"
    assert jobs.pin(redis, "j", "bertq", "other") == "mine"
    assert jobs.read(redis, "j").fingerprint == "mine"


def test_no_job_is_pinned_to_a_model_whose_queue_was_given_to_another(redis: Redis) -> None:
    create_job(redis, chunks=2)
    claims.switch(redis, ["bertq"], "new", [], 1)
    assert jobs.pin(redis, "j", "bertq", "old") == "new"
    assert jobs.read(redis, "j").fingerprint is None
    # The queue of a device has no claim.
    assert jobs.pin(redis, "j", "gpu0", "old") == "old"
    assert jobs.pin(redis, "j", "bertq", "new") == "old"


def test_pinning_a_model_does_not_recreate_an_expired_job(redis: Redis) -> None:
    assert jobs.pin(redis, "gone", "bertq", "mine") == "mine"
    assert redis.dbsize() == 0
