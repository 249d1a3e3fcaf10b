"""The clients of a gateway: one for each model that workers serve, and no more."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from redis import Redis

from bertq.state import worker_info
from bertq.state.worker_info import WorkerInfo
from tests.client.stub import info
from tests.gateway.conftest import Gateway, StartGateway
from tests.waiting import eventually


def worker(name: str) -> WorkerInfo:
    """Return the info of a worker with a named model."""
    made = info([f"bertq.{name}", f"bertq.{name}.small"])
    return dataclasses.replace(made, node=f"{name}@test", model_name=name)


def used_clients() -> int:
    """Return the number of clients in this process that have sent a request."""
    return sum(thread.name == "bertq-sender" for thread in threading.enumerate())


def code(gateway: Gateway, model: str) -> str:
    """Return the error code of a request that no worker answers."""
    answer = gateway.http.post("/v1/embeddings", json={"model": model, "input": "a"})
    found: str = answer.json()["error"]["code"]
    return found


def test_clients_follow_the_workers(start_gateway: StartGateway, redis: Redis) -> None:
    gateway = start_gateway(timeout_seconds=0.3)
    before = used_clients()
    workers = [worker(f"m{number}") for number in range(5)]
    for published in workers:
        worker_info.publish(redis, published)
    assert [code(gateway, f"m{number}") for number in range(5)] == ["timeout"] * 5
    assert used_clients() == before + 5
    for number in range(20):
        assert code(gateway, f"unknown{number}") == "model_not_found"
    assert used_clients() == before + 5
    for gone in workers[1:]:
        worker_info.withdraw(redis, gone)

    def clients() -> int:
        gateway.http.get("/readyz")
        return used_clients()

    eventually(lambda: clients() == before + 1)
    worker_info.publish(redis, workers[1])
    eventually(lambda: code(gateway, "m1") == "timeout")
    assert used_clients() == before + 2


def test_a_request_outlives_its_worker(start_gateway: StartGateway, redis: Redis) -> None:
    gateway = start_gateway(timeout_seconds=6)
    before = used_clients()
    worker_info.publish(redis, worker("m"))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(code, gateway, "m")
        eventually(lambda: redis.llen("bertq.m.small") == 1)
        worker_info.withdraw(redis, worker("m"))
        eventually(lambda: not gateway.http.get("/v1/models").json()["data"])
        time.sleep(0.5)
        assert used_clients() == before + 1
        assert answer.result(20) == "no_worker"
