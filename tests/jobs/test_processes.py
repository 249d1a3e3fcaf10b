"""Jobs that outlive their clients, workers and Redis, on stand-in workers."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from redis import Redis

from bertq import BertClient
from bertq.protocol import keys
from tests.chaos.leftovers import check_nothing_is_left
from tests.chaos.poison import FAIL
from tests.chaos.test_redis import kill_and_restart
from tests.conftest import StartServer, clean_environ
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import PoisonWorker, QuickWorker, Start, encoded_chunks, starter

ROOT = Path(__file__).parents[2]
CHUNKS = 12
TEXTS = standins.sentences(256 * CHUNKS)

SUBMIT = """
import sys
from bertq import BertClient
from tests.workers import standins

job = BertClient(redis_url=sys.argv[1]).submit(standins.sentences(int(sys.argv[2])))
print(job.id, flush=True)
import os; os._exit(0)  # without closing the client
"""

READ = """
import sys
import numpy as np
from bertq import BertClient
from tests.workers import standins

texts = standins.sentences(int(sys.argv[3]))
job = BertClient(redis_url=sys.argv[1]).job(sys.argv[2])
vectors = np.full((len(texts), standins.DIM), -1, np.float32)
print("reading", flush=True)
for some in job.batches(60):
    vectors[some.numbers] = some.vectors
    print(len(some.numbers), flush=True)
np.testing.assert_array_equal(vectors, standins.rows(texts))
np.testing.assert_array_equal(job.result(), vectors)
print("whole", flush=True)
"""


workers = contextmanager(starter)


def submit(url: str, rows: int = len(TEXTS)) -> str:
    """Submit a job from a process that ends at once; return its id."""
    command = [sys.executable, "-c", SUBMIT, url, str(rows)]
    ended = subprocess.run(
        command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


class ReaderProcess:
    """A process that reads a job, and prints the rows of each chunk that it has."""

    def __init__(self, url: str, job_id: str, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-c", READ, url, job_id, str(len(TEXTS))]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=clean_environ(), stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def log(self) -> list[str]:
        """The lines that it has printed."""
        return self._log.read_text().splitlines()


def test_three_readers_of_a_job_without_its_client(
    redis: Redis, redis_url: str, start: Start, tmp_path: Path
) -> None:
    job_id = submit(redis_url)
    readers = [ReaderProcess(redis_url, job_id, tmp_path / f"reader-{n}") for n in range(3)]
    try:
        eventually(lambda: all(reader.log for reader in readers), 60)
        start(400, "-Q", "cpu0")
        eventually(lambda: "256" in readers[1].log, 30)
        readers[1].process.kill()
        assert readers[1].process.wait(10) < 0
        assert readers[1].log.count("256") < CHUNKS
        for reader in (readers[0], readers[2]):
            assert reader.process.wait(60) == 0, reader.log
            assert reader.log == ["reading", *["256"] * CHUNKS, "whole"]
    finally:
        for reader in readers:
            reader.process.kill()
            reader.process.wait()
    check_nothing_is_left(redis)


def test_a_killed_worker_without_a_reader(redis: Redis, redis_url: str, start_quick: Start) -> None:
    job_id = submit(redis_url)
    first = start_quick(400, "-Q", "cpu0")
    eventually(lambda: len(encoded_chunks(first)) >= 2, 30)
    first.kill()
    assert redis.hlen(keys.UNACKED) > 0
    second = start_quick(1, "-Q", "cpu1")
    eventually(lambda: redis.hget(keys.job(job_id), "state") == b"done", 30)
    assert 0 < len(encoded_chunks(first)) < CHUNKS
    second.wait_for(lambda: len(encoded_chunks(first, second)) >= CHUNKS)
    with BertClient(redis_url=redis_url) as client:
        np.testing.assert_array_equal(client.job(job_id).result(5), standins.rows(TEXTS))
    check_nothing_is_left(redis)


def test_a_lost_message_without_a_reader(redis: Redis, redis_url: str, start_quick: Start) -> None:
    job_id = submit(redis_url)
    for _ in range(3):
        assert redis.rpop("bertq")  # as a worker that dies before it can note it
    worker = start_quick(1, "-Q", "cpu0")
    eventually(lambda: redis.hget(keys.job(job_id), "state") == b"done", 30)
    worker.wait_for_log("lost, sent again", count=3)
    assert worker.log.count("lost, sent again") == 3
    with BertClient(redis_url=redis_url) as client:
        (info,) = client.server_config.values()
        alone = client.submit(TEXTS[:3])
        np.testing.assert_array_equal(alone.result(20), standins.rows(TEXTS[:3]))
        for job in (client.job(job_id), alone):
            assert job.info.fingerprint == info["fingerprint"]
        np.testing.assert_array_equal(client.job(job_id).result(5), standins.rows(TEXTS))


def test_the_next_worker_takes_over_the_monitor(
    redis: Redis, redis_url: str, start_quick: Start
) -> None:
    first = start_quick(1, "-Q", "cpu0")
    eventually(lambda: redis.get(keys.MONITOR))
    name = redis.get(keys.MONITOR)
    second = start_quick(1, "-Q", "cpu1")
    assert redis.get(keys.MONITOR) == name
    assert first.stop() == 0
    eventually(lambda: redis.get(keys.MONITOR) not in (None, name))
    assert second.stop() == 0
    assert redis.get(keys.MONITOR) is None


def test_redis_is_killed(start_own_server: StartServer, tmp_path: Path) -> None:
    server = start_own_server(appendonly="yes", appendfsync="everysec")
    url = f"redis://127.0.0.1:{server.port}/0"
    job_id = submit(url)
    with workers(QuickWorker, url, tmp_path) as start:
        worker = start(300, "-Q", "cpu0")
        eventually(lambda: len(encoded_chunks(worker)) >= 2, 30)
        with BertClient(redis_url=url) as client:
            job = client.job(job_id)
            batches = job.batches(90)
            seen = [next(batches)]
            kill_and_restart(server, 1)
            assert not job.info.finished
            seen += batches
            assert sorted(n for some in seen for n in some.numbers) == list(range(len(TEXTS)))
            for some in seen:
                wanted = standins.rows([TEXTS[number] for number in some.numbers])
                np.testing.assert_array_equal(some.vectors, wanted)


def test_a_poisoned_sentence_fails_only_its_chunk(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    texts = [*TEXTS[:600], FAIL]
    with BertClient(redis_url=redis_url, timeout=60) as client:
        job = client.submit(texts)
    with workers(PoisonWorker, redis_url, tmp_path, until_ready=False) as start:
        start(1, "-Q", "cpu0")
        with BertClient(redis_url=redis_url) as client:
            found = client.job(job.id)
            eventually(lambda: found.info.finished, 30)
            vectors, there = found.partial()
            assert found.status == "failed"
            assert vectors is not None
            assert not there[600]
            assert there.sum() == found.progress.done >= 600 - 255
            wanted = standins.rows(texts)
            np.testing.assert_array_equal(vectors[there], wanted[there])
