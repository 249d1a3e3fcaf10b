"""Workers that do not obey Celery's remote control: all else works as with it."""

import subprocess
import sys

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.state import status
from tests.chaos.leftovers import check_nothing_is_left
from tests.conftest import clean_environ
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import Start, encoded_chunks

TEXTS = standins.sentences(2000)


def celery(url: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "celery", "-A", "bertq", *arguments]
    environ = clean_environ() | {"BERTQ_REDIS_URL": url}
    found = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    return found.stdout + found.stderr


def test_off(redis: Redis, redis_url: str, client: BertClient, start: Start) -> None:
    obeys = start(100, "-Q", "gpu0")
    deaf = start(100, "-Q", "gpu1", "--no-remote-control")
    answers = celery(redis_url, "inspect", "ping")
    assert "gpu0@" in answers
    assert "gpu1@" not in answers
    future = client.encode_async(TEXTS)
    eventually(lambda: bool(encoded_chunks(deaf)) and bool(encoded_chunks(obeys)))
    # To all of them: one leaves, and the other does not hear of it.
    celery(redis_url, "control", "shutdown")
    assert obeys.process.wait(30) == 0
    np.testing.assert_array_equal(future.result(60), standins.rows(TEXTS))
    assert deaf.process.poll() is None
    job = client.submit(TEXTS)
    np.testing.assert_array_equal(job.result(60), standins.rows(TEXTS))
    cancelled = client.encode_async(TEXTS)
    assert cancelled.cancel()
    np.testing.assert_array_equal(client.encode(TEXTS[:9]), standins.rows(TEXTS[:9]))
    assert [worker.device for worker in status.read(redis).workers] == ["gpu1"]
    assert deaf.stop() == 0
    check_nothing_is_left(redis)


def test_a_variable_does_the_same(
    redis_url: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standins, "clean_environ", lambda: clean_environ() | {
        "BERTQ_REMOTE_CONTROL": "off"
    })  # fmt: skip
    start(1, "-Q", "gpu0")
    assert "No nodes replied" in celery(redis_url, "inspect", "ping")
