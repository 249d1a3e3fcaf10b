"""Workers that are asked to drain: they finish or return their chunks, and end."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from bertq import BertClient
from bertq.protocol import keys, time_to_live
from bertq.state import claims, drain, health, worker_info
from bertq_cli.commands.status import show
from bertq_cli.operate import waiting
from bertq_cli.operate.drain import UnknownWorker, drain_workers
from tests.client.stub import info
from tests.conftest import StartServer
from tests.security.roles import Guarded
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import Start, encoded_chunks

CHUNKS = 8
TEXTS = standins.sentences(256 * CHUNKS)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(drain_workers, arguments, catch_exceptions=False)


def test_a_drained_worker_finishes_its_chunks_and_ends(
    redis_url: str, redis: Redis, start_quick: Start
) -> None:
    first, second = start_quick(500, "-Q", "cpu0"), start_quick(500, "-Q", "cpu1")
    (name,) = (worker.node for worker in worker_info.read(redis) if "cpu0" in worker.queues)
    shown: list[Result] = []
    with BertClient(redis_url=redis_url, timeout=90) as client:
        future = client.encode_async(TEXTS)
        first.wait_for(lambda: bool(encoded_chunks(first)))
        command = threading.Thread(
            target=lambda: shown.append(run("cpu0@*", "--redis-url", redis_url))
        )
        command.start()
        eventually(lambda: worker_info.read(redis, worker_info.DRAINING), 60)
        status = CliRunner().invoke(show, ["--redis-url", redis_url]).output
        assert f"draining    {name}" in status or first.process.poll() is not None
        eventually(lambda: len(worker_info.read(redis)) == 1)
        command.join(60)
        assert first.process.wait(60) == 0
        assert shown[0].exit_code == 0, shown[0].output
        assert f"{name} has ended after" in shown[0].output
        np.testing.assert_array_equal(future.result(60), standins.rows(TEXTS))
    computed = encoded_chunks(first, second)
    assert len(computed) == len(set(computed)) == CHUNKS
    assert worker_info.read(redis, worker_info.DRAINING) == []


def test_unfinished_chunks_are_returned_after_the_timeout(
    redis_url: str, redis: Redis, start_quick: Start
) -> None:
    first = start_quick(60_000, "-Q", "cpu0")  # a batch takes a minute
    with BertClient(redis_url=redis_url, timeout=90) as client:
        future = client.encode_async(TEXTS)
        eventually(lambda: redis.hlen("unacked"))
        shown = run("*", "--redis-url", redis_url, "--timeout", "3")
        assert shown.exit_code == 0, shown.output
        assert " drains: " in shown.output
        assert first.process.wait(60) == 0
        assert redis.hlen("unacked") == redis.zcard("unacked_index") == 0
        second = start_quick(1, "-Q", "cpu1")
        np.testing.assert_array_equal(future.result(60), standins.rows(TEXTS))
    assert encoded_chunks(first) == []
    assert len(encoded_chunks(second)) == CHUNKS


def begin(redis: Redis, *arguments: str) -> Callable[[], Result]:
    """Begin to drain the worker of the stubs; return a function that waits for the result."""
    shown: list[Result] = []
    command = threading.Thread(
        target=lambda: shown.append(CliRunner().invoke(drain_workers, arguments))
    )
    command.start()
    eventually(lambda: drain.read(redis, info(["bertq"]).instance) is not None, 60)

    def finish() -> Result:
        command.join(90)
        return shown[0]

    return finish


def test_a_registration_that_expires_is_no_end(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "REACTION_SECONDS", time_to_live.WORKER_SECONDS)
    frozen, ended = info(["bertq"]), replace(info(["bertq"]), node="b@test", instance="2")
    for worker in (frozen, ended):
        worker_info.publish(redis, worker)
    redis.expire(keys.worker(frozen.node), 3)
    finish = begin(redis, "*", "--redis-url", redis_url)
    worker_info.withdraw(redis, ended)
    shown = finish()
    assert shown.exit_code == 1, shown.output
    assert "b@test has ended after" in shown.output
    assert "stub@test has ended" not in shown.output
    assert re.search(
        r"stub@test has not answered for \d+ s: its process 0 on test may", shown.output
    )


def test_a_worker_that_ends_while_its_registration_is_read(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = info(["bertq"])
    worker_info.publish(redis, worker)
    seconds_left = worker_info.seconds_left

    def withdraw_before(*arguments: Any) -> list[float]:
        worker_info.withdraw(redis, worker)
        return seconds_left(*arguments)

    monkeypatch.setattr(worker_info, "seconds_left", withdraw_before)
    shown = run("*", "--redis-url", redis_url)
    assert shown.exit_code == 0, shown.output
    assert "stub@test has ended after" in shown.output


@pytest.mark.parametrize("is_final", [False, True])
def test_an_outage_while_the_command_waits(
    start_own_server: StartServer, monkeypatch: pytest.MonkeyPatch, is_final: bool
) -> None:
    if is_final:
        monkeypatch.setattr(waiting, "RETRY_SECONDS", 0.3)
    server = start_own_server()
    worker = info(["bertq"])
    with Redis(port=server.port) as redis:
        worker_info.publish(redis, worker)
        finish = begin(redis, "*", "--redis-url", f"redis://127.0.0.1:{server.port}/0")
        server.stop()
        if is_final:
            shown = finish()
        else:
            time.sleep(0.5)  # for some attempts
        server.start()
        if not is_final:
            eventually(lambda: redis.ping(), 60)
            worker_info.withdraw(redis, worker)
            shown = finish()
    if is_final:
        assert isinstance(shown.exception, waiting.ProgressUnknown)
        assert "the request was made and goes on: see bertq status; Redis at" in str(
            shown.exception
        )
    else:
        assert shown.exit_code == 0, (shown.output, shown.exception)
        assert "stub@test has ended after" in shown.output


def test_ctrl_c_says_that_the_workers_drain_all_the_same(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    worker_info.publish(redis, info(["bertq"]))
    monkeypatch.setattr(worker_info, "seconds_left", interrupt)
    shown = run("*", "--redis-url", redis_url)
    assert (shown.exit_code, shown.output) == (
        130, "the workers drain all the same: see bertq status\n",
    )  # fmt: skip


def test_an_unknown_worker_is_refused_and_nothing_changes(redis_url: str, redis: Redis) -> None:
    worker_info.publish(redis, info(["bertq"]))
    with pytest.raises(UnknownWorker, match=r"is named 'gpu\*'; alive: stub@test"):
        run("stub@test", "gpu*", "--redis-url", redis_url)
    assert drain.read(redis, info(["bertq"]).instance) is None


def test_a_worker_that_drains_stays_healthy_for_its_supervisor(redis: Redis) -> None:
    worker_info.publish(redis, info(["bertq"]), worker_info.DRAINING)
    assert health.of_node(redis, "stub@test").healthy
    assert not health.of_model(redis, None).healthy


@pytest.mark.parametrize("text", ["", "x", "nan", "-1", "inf"])
def test_a_request_that_is_no_number_of_seconds_is_ignored(redis: Redis, text: str) -> None:
    worker = info(["bertq"])
    drain.request(redis, worker, 5)
    assert drain.read(redis, worker.instance) == 5
    redis.set(f"bertq:drain:{worker.instance}", text)
    assert drain.read(redis, worker.instance) is None


def test_the_rights_of_a_worker_are_enough(start_own_server: StartServer, tmp_path: Path) -> None:
    guarded = Guarded(start_own_server, tmp_path)
    with Redis.from_url(guarded.url("worker")) as redis:
        worker = info(["bertq"])
        worker_info.publish(redis, worker)
        assert worker_info.read(redis, worker_info.DRAINING) == []
        claims.switch(redis, ["bertq"], "new", [worker], 5)
        assert (drain.read(redis, worker.instance), claims.holders(redis, ["bertq"])) == (
            5, ["new"],
        )  # fmt: skip
    assert guarded.refused() == []
    guarded.admin.close()
