"""``bertq models switch`` replaces a model under load: no request gets rows of two models."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from bertq import BertClient
from bertq.protocol import keys
from bertq.state import claims, health, worker_info
from bertq_cli.commands.status import show
from bertq_cli.operate.switch import SwitchRefused, models
from tests.client.stub import info
from tests.operate.tagged import fingerprint
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker

OLD, NEW = 1, 2

#: Starts a worker with a tag, the milliseconds for 256 rows, and options.
Begin = Callable[..., StandInWorker]


@pytest.fixture
def begin(redis_url: str, tmp_path: Path) -> Iterator[Begin]:
    started: list[StandInWorker] = []

    def begin(tag: int, batch_ms: float, *options: str) -> StandInWorker:
        class TaggedWorker(StandInWorker):
            program = ("-m", "tests.operate.tagged", str(tag))

        log = tmp_path / f"worker-{len(started)}.log"
        started.append(TaggedWorker(redis_url, log, batch_ms, *options))
        return started[-1]

    yield begin
    for worker in started:
        worker.kill()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(models, ["switch", *arguments], catch_exceptions=False)


def wait_for_standby(redis: Redis, count: int) -> None:
    eventually(lambda: len(worker_info.read(redis, worker_info.STANDBY)) == count, 90)


class Load:
    """Threads that send requests of some sizes, one after another.

    Attributes:
        tags: for each thread, the tags of the models of its answers.
        errors: exceptions, and answers with wrong rows.
    """

    def __init__(self, client: BertClient, sizes: list[int]) -> None:
        self.tags: list[list[int]] = [[] for _ in sizes]
        self.errors: list[object] = []
        self._client = client
        self._is_stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(size, tags))
            for size, tags in zip(sizes, self.tags, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._is_stopped.set()
        for thread in self._threads:
            thread.join(90)

    def _send(self, size: int, tags: list[int]) -> None:
        texts = standins.sentences(size)
        expected = standins.rows(texts)[:, 0]
        while not self._is_stopped.is_set():
            try:
                vectors = self._client.encode(texts)
            except Exception as error:
                self.errors.append(error)
                return
            if not np.array_equal(vectors[:, 0], expected) or len({*vectors[:, 1]}) != 1:
                self.errors.append(vectors)
            tags.append(int(vectors[0, 1]))


def test_a_model_is_replaced_under_load(
    redis_url: str, redis: Redis, client: BertClient, begin: Begin
) -> None:
    old = [begin(OLD, 30, "-Q", queue) for queue in ("cpu0", "cpu1")]
    for worker in old:
        worker.wait_ready()
    load = Load(client, [1, 1, 16, 40, 700, 6000])
    try:
        new = [begin(NEW, 30, "-Q", queue, "--standby") for queue in ("cpu2", "cpu3")]
        wait_for_standby(redis, 2)
        eventually(lambda: all(load.tags), 60)
        shown = run(fingerprint(NEW), "--redis-url", redis_url)
        assert shown.exit_code == 0, shown.output
        # From now on there are only answers of the new model.
        switched = [len(tags) for tags in load.tags]
        eventually(
            lambda: all(
                len(tags) > count + 1 for tags, count in zip(load.tags, switched, strict=True)
            ),
            60,
        )
    finally:
        load.stop()
    assert load.errors == []
    for tags, count in zip(load.tags, switched, strict=True):
        # A request that was under way at the switch is the last that may have either.
        assert {*tags[count + 1 :]} == {NEW}
        assert [tag for tag, _ in itertools.groupby(tags)] == [OLD, NEW]
    assert [worker.process.wait(30) for worker in old] == [0, 0]
    for worker in new:
        worker.wait_ready()
    lines = shown.output.splitlines()
    assert lines[0].startswith("new: tagged-2  clock, REDUCE_MEAN")
    assert lines[1].startswith("old: tagged-1  clock, REDUCE_MEAN")
    assert sum(" has ended after " in line for line in lines) == 2
    assert sum(line.endswith(" serves") for line in lines) == 2
    assert worker_info.read(redis, worker_info.STANDBY) == []
    eventually(lambda: not redis.hlen("unacked"))
    repeated = run(fingerprint(NEW), "--redis-url", redis_url)
    assert repeated.exit_code == 0
    assert "tagged-2 already serves queues bertq and bertq.small of redis:" in repeated.output


def test_durable_jobs_that_have_begun(
    redis_url: str, redis: Redis, client: BertClient, begin: Begin
) -> None:
    begin(OLD, 400, "-Q", "cpu0").wait_ready()
    begin(NEW, 1, "-Q", "cpu1", "--standby")
    texts = standins.sentences(256 * 12)
    job = client.submit(texts)
    wait_for_standby(redis, 1)
    eventually(lambda: job.status == "running", 60)
    with pytest.raises(SwitchRefused, match=r"has begun durable jobs: [0-9a-f]{8} \([\d,]+ of 3,"):
        run(fingerprint(NEW), "--redis-url", redis_url)
    assert claims.holders(redis, ["bertq", "bertq.small"]) == [fingerprint(OLD)] * 2
    shown = run(fingerprint(NEW), "--redis-url", redis_url, "--wait-for-jobs", "90")
    assert shown.exit_code == 0, shown.output
    assert "waiting for durable jobs of the old model: " in shown.output
    assert {*job.result(60)[:, 1]} == {OLD}
    assert {*client.submit(texts).result(60)[:, 1]} == {NEW}


def test_durable_jobs_fail_on_request(
    redis_url: str, redis: Redis, client: BertClient, begin: Begin
) -> None:
    begin(OLD, 600, "-Q", "cpu0").wait_ready()
    begin(NEW, 1, "-Q", "cpu1", "--standby")
    job = client.submit(standins.sentences(256 * 40))
    wait_for_standby(redis, 1)
    eventually(lambda: job.status == "running", 60)
    shown = run("clock", "--redis-url", redis_url, "--fail-jobs")
    assert shown.exit_code == 0, shown.output
    eventually(lambda: job.status == "failed", 60)
    rows, arrived = job.partial()
    assert {*np.asarray(rows)[arrived][:, 1]} == {OLD}


def test_a_worker_that_stands_by(
    redis_url: str, redis: Redis, begin: Begin, client: BertClient
) -> None:
    first = begin(OLD, 1, "-Q", "cpu0").wait_ready()
    second = begin(NEW, 1, "-Q", "cpu1", "--standby")
    ended = begin(NEW, 1, "-Q", "cpu2", "--standby")
    wait_for_standby(redis, 2)
    (node,) = (
        worker.node
        for worker in worker_info.read(redis, worker_info.STANDBY)
        if "cpu1" in worker.queues
    )
    assert f"standby     {node}  tagged-2" in (
        CliRunner().invoke(show, ["--redis-url", redis_url]).output
    )
    assert health.of_node(redis, node).healthy
    assert [worker.fingerprint for worker in worker_info.read(redis)] == [fingerprint(OLD)]
    ended.process.terminate()
    assert ended.process.wait(30) == -signal.SIGTERM
    # The last worker of the old model dies: its claims expire.
    first.kill()
    second.wait_ready()
    assert client.encode(["a"])[0, 1] == NEW


def test_a_worker_started_during_the_switch_waits_for_the_old_ones(
    redis_url: str, redis: Redis, begin: Begin
) -> None:
    other = replace(info(["bertq", "bertq.small"]), fingerprint=fingerprint(OLD))
    worker_info.publish(redis, other)
    redis.expire(keys.worker(other.node), 600)
    claims.switch(redis, ["bertq", "bertq.small"], fingerprint(NEW), [], 1)
    refused = begin(NEW, 1, "-Q", "cpu0")
    assert refused.process.wait(60) == os.EX_UNAVAILABLE
    assert "stub@test with model stub (" in refused.log
    assert "takes from the same queues as this worker" in refused.log


def publish_standby(redis: Redis, node: str, **changes: str) -> None:
    made = replace(info(["bertq", "bertq.small"]), node=node, **changes)  # type: ignore[arg-type]
    worker_info.publish(redis, made, worker_info.STANDBY)


def test_what_cannot_be_switched_is_refused(redis_url: str, redis: Redis) -> None:
    with pytest.raises(SwitchRefused, match=r"no worker stands by with model abcdef .*: none\."):
        run("abcdef", "--redis-url", redis_url)
    publish_standby(redis, "a@x", fingerprint="abcdef1")
    publish_standby(redis, "b@x", fingerprint="abcdef2")
    with pytest.raises(SwitchRefused, match=r"standing by: abcdef1 \(stub\), abcdef2 \(stub\)"):
        run("abc", "--redis-url", redis_url)  # too short
    for ambiguous in ("abcdef", "stub"):
        with pytest.raises(SwitchRefused, match="stand by: give one of abcdef1, abcdef2"):
            run(ambiguous, "--redis-url", redis_url)
    with pytest.raises(SwitchRefused, match=r"queues bertq\.other and bertq\.other\.small"):
        run("abcdef1", "--redis-url", redis_url, "--model-name", "other")
    worker_info.publish(redis, replace(info(["bertq", "bertq.small"]), task="score"))
    with pytest.raises(SwitchRefused, match="returns vectors, and stub of stub@test returns score"):
        run("abcdef1", "--redis-url", redis_url)
    assert claims.holders(redis, ["bertq", "bertq.small"]) == [None, None]
