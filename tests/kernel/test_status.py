"""Counters over all requests and the state of the service, on a real server."""

import dataclasses
import json
import math
from typing import Any

import pytest
from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.state import claims, counters, status, worker_info
from bertq.state.worker_info import WorkerStats
from tests import records
from tests.client.stub import info


def request(redis: Redis, client: str, rows: int, queue: str = "bertq") -> None:
    records.write(redis, f"{client}-{rows}", client=client, queue=queue, rows=rows)


def test_without_requests_there_are_zeros(redis: Redis) -> None:
    assert counters.read(redis) == {
        "num_data_request": 0,
        "num_total_seq": 0,
        "num_sys_request": 0,
        "num_total_request": 0,
        "num_total_client": 0,
        "num_active_client": 0,
        "requests_per_second": 0.0,
        "sequences_per_second": 0.0,
    }


def test_requests_are_counted_under_the_names_of_bert_as_service(redis: Redis) -> None:
    for client, rows in (("a", 2), ("a", 2), ("a", 5), ("b", 300)):
        request(redis, client, rows)
    counters.count_status_query(redis)
    counted = counters.read(redis)
    totals = {name: value for name, value in counted.items() if name.startswith("num_")}
    assert counted["num_data_request"] == 4
    assert counted["num_total_seq"] == 309
    assert (counted["num_sys_request"], counted["num_total_request"]) == (1, 5)
    assert (counted["num_total_client"], counted["num_active_client"]) == (2, 2)
    assert (counted["min_size_per_request"], counted["max_size_per_request"]) == (2, 300)
    assert (totals["num_min_size_per_request"], totals["num_max_size_per_request"]) == (2, 1)
    assert counted["avg_size_per_request"] == 309 / 4
    assert (counted["min_request_per_client"], counted["max_request_per_client"]) == (1, 3)
    assert counted["avg_request_per_client"] == 2
    assert counted["min_last_two_interval"] >= 0
    assert math.isclose(counted["requests_per_second"], 4 / 60)
    assert math.isclose(counted["sequences_per_second"], 309 / 60)


def test_rates_come_from_the_times_of_the_requests(redis: Any) -> None:
    for milliseconds in (1000, 1500, 2500):
        redis.xadd(keys.REQUESTS, {"client": "a", "rows": 1}, id=f"{milliseconds}-0")
    counted = counters.read(redis)
    assert (counted["min_last_two_interval"], counted["max_last_two_interval"]) == (0.5, 1.0)
    assert (counted["min_request_per_second"], counted["max_request_per_second"]) == (1, 2)
    assert counted["avg_request_per_second"] == 1.5
    assert counted["requests_per_second"] == 0  # all of it was long ago


def test_the_rate_of_a_busy_minute_uses_the_remembered_requests(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "LATEST_REQUESTS", 5)
    for _ in range(20):
        request(redis, "a", 3)
    counted = counters.read(redis)
    assert counted["requests_per_second"] > 5 / 60
    assert math.isclose(counted["sequences_per_second"], 3 * counted["requests_per_second"])
    assert counted["num_data_request"] == 20


def test_an_idle_client_is_not_active(redis: Redis) -> None:
    request(redis, "a", 1)
    redis.zincrby(keys.CLIENTS, -counters.CLIENT_ACTIVE_SECONDS - 1, "a")
    counted = counters.read(redis)
    assert (counted["num_total_client"], counted["num_active_client"]) == (1, 0)


def test_a_server_that_refuses_writes_can_be_read(redis_url: str, redis: Any) -> None:
    request(redis, "a", 1)
    rights = ("~*", "+@read", "+@connection", "+select", "+time")
    redis.execute_command("ACL", "SETUSER", "reader", "on", ">pw", *rights)
    try:
        # Reading would remove a name, and count an access.
        redis.zadd(keys.WORKERS, {"dead@test": 1.0})
        with Redis.from_url(redis_url, username="reader", password="pw") as reader:
            counters.count_status_query(reader)
            assert status.read(reader).workers == []
    finally:
        redis.execute_command("ACL", "DELUSER", "reader")
    assert counters.read(redis)["num_sys_request"] == 0


def test_every_counter_expires(redis: Redis) -> None:
    request(redis, "a", 1)
    counters.count_status_query(redis)
    for key in (keys.TOTALS, keys.CLIENTS, keys.QUEUES, keys.REQUESTS):
        assert 0 < int(redis.ttl(key)) <= time_to_live.STATISTICS_SECONDS


def test_unreadable_worker_infos_are_ignored(redis: Redis) -> None:
    worker = info(["bertq"])
    worker_info.publish(redis, worker)
    document = dataclasses.asdict(worker)
    strange = ["[", "[]", "{}", "[" * 100_000]
    for field, value in (
        ("queues", None), ("queues", [1]), ("max_batch_size", "many"), ("row_shape", [[]]),
        ("node", None), ("work", {"chunks": "x"}), ("versions", []), ("model", {}),
    ):  # fmt: skip
        strange.append(json.dumps(document | {field: value}))
    for number, text in enumerate(strange):
        redis.set(keys.worker(f"strange{number}"), text)
        redis.zadd(keys.WORKERS, {f"strange{number}": 0})
    redis.zadd(keys.WORKERS, {b"\xff": 0})
    assert worker_info.read(redis) == [worker]


def test_the_state_of_the_service(redis: Redis) -> None:
    worker = dataclasses.replace(info(["bertq", "gpu0"]), work=WorkerStats(chunks=3, sentences=700))
    worker_info.publish(redis, worker)
    claims.take(redis, "bertq", "f")
    redis.lpush("bertq", "1", "2")
    redis.lpush("gpu7", "1")
    redis.hset(keys.UNACKED, "tag", "message")
    request(redis, "a", 1, queue="gpu7")
    found = status.read(redis)
    assert found.workers == [worker]
    assert [
        (queue.name, queue.chunks, queue.workers, queue.fingerprint) for queue in found.queues
    ] == [
        ("bertq", 2, ["stub@test"], "f"),
        ("bertq.small", 0, [], None),
        ("gpu0", 0, ["stub@test"], None),
        ("gpu7", 1, [], None),
    ]
    assert found.unacked == 1
    document = json.loads(json.dumps(found.document()))
    assert (document["num_worker"], document["device_map"]) == (1, ["cpu0"])
    assert document["workers"]["stub@test"]["work"]["sentences"] == 700
    assert document["queues"]["gpu7"]["chunks"] == 1
    assert document["statistic"]["num_data_request"] == 1
