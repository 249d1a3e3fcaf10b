"""Workers and clients of two releases on one queue."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import VersionMismatch
from bertq.protocol import keys, versions
from bertq.state import worker_info
from bertq_client.outbox.message import MessageBuilder
from tests.client.stub import info
from tests.operate.next_release import NEXT
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker, Start, starter

TEXTS = standins.sentences(600)


class NextWorker(StandInWorker):
    program = ("-m", "tests.operate.next_release")


@pytest.fixture
def start_next(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start workers of the next release."""
    yield from starter(NextWorker, redis_url, tmp_path)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The wire formats of the messages that clients write."""
    formats: list[int] = []
    build = MessageBuilder.build

    def note(self: MessageBuilder, *args: Any, **options: Any) -> str:
        message = build(self, *args, **options)
        formats.append(json.loads(message)["headers"]["wire"])
        return message

    monkeypatch.setattr(MessageBuilder, "build", note)
    return formats


@pytest.fixture
def next_client(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BertClient]:
    """A client of the next release."""
    monkeypatch.setattr(versions, "WIRE_VERSION", NEXT)
    with BertClient(redis_url=redis_url, timeout=90, check_length=False) as made:
        yield made


def test_two_releases_share_a_queue(
    start: Start,
    start_next: Start,
    client: BertClient,
    redis: Redis,
    written: list[int],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    newer = start_next(1, "-Q", "cpu1")
    assert [worker.wire for worker in worker_info.read(redis)] == [[NEXT - 1, NEXT]]
    # A client of this release with the next one's worker.
    np.testing.assert_array_equal(client.encode(TEXTS), standins.rows(TEXTS))
    assert set(written) == {NEXT - 1}
    with monkeypatch.context() as patch:
        patch.setattr(versions, "WIRE_VERSION", NEXT)
        with BertClient(redis_url=redis_url, timeout=90, check_length=False) as next_client:
            # The next release alone writes its own format.
            written.clear()
            np.testing.assert_array_equal(next_client.encode(TEXTS), standins.rows(TEXTS))
            assert set(written) == {NEXT}
            older = start(1, "-Q", "cpu0")
            # The same client, once it sees a worker of this release.
            eventually(lambda: len(next_client.server_config) == 2)
        with BertClient(redis_url=redis_url, timeout=90, check_length=False) as next_client:
            written.clear()
            for texts in (TEXTS, TEXTS[:1]):
                np.testing.assert_array_equal(next_client.encode(texts), standins.rows(texts))
            job = next_client.submit(TEXTS)
            np.testing.assert_array_equal(job.result(60), standins.rows(TEXTS))
            assert set(written) == {NEXT - 1}
    for worker in (older, newer):
        assert "VersionMismatch" not in worker.log


def test_a_message_of_the_next_release_waits_for_its_worker(
    start: Start, start_next: Start, next_client: BertClient, redis: Redis
) -> None:
    # The client knows one worker, of its own release.
    known = replace(info(["bertq", "bertq.small"]), fingerprint="clock-4", wire=[NEXT - 1, NEXT])
    worker_info.publish(redis, known)
    redis.expire(keys.worker(known.node), 600)
    futures = [next_client.encode_async(texts) for texts in (TEXTS[:300], TEXTS[:2])]
    eventually(lambda: redis.llen("bertq") + redis.llen("bertq.small") == 3)
    older = start(1, "-Q", "cpu0")
    older.wait_for_log("returned for stub@test, which reads wire format", count=3, timeout=60)
    start_next(1, "-Q", "cpu1")
    for future, texts in zip(futures, (TEXTS[:300], TEXTS[:2]), strict=True):
        np.testing.assert_array_equal(future.result(60), standins.rows(texts))
    assert "VersionMismatch" not in older.log
    eventually(lambda: not redis.hlen("unacked"))


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS], ids=["small", "large"])
def test_a_client_without_a_common_format_sends_nothing(
    client: BertClient, redis: Redis, texts: list[str]
) -> None:
    worker_info.publish(redis, replace(info(["bertq", "bertq.small"]), wire=[NEXT, NEXT + 1]))
    expected = (
        f"writes wire format {NEXT - 1}, .* stub@test reads {NEXT} and {NEXT + 1}; install the same"
    )
    for _ in range(2):
        with pytest.raises(VersionMismatch, match=expected):
            client.encode(texts)
    with pytest.raises(VersionMismatch, match=expected):
        client.submit(texts)
    assert redis.llen("bertq") == redis.llen("bertq.small") == 0
    assert not list(redis.scan_iter("bertq:job:*"))


def test_a_worker_that_does_not_say_what_it_reads_is_one_of_the_first_format(redis: Redis) -> None:
    worker = info(["bertq"])
    worker_info.publish(redis, worker)
    document = json.loads(redis.get(f"bertq:worker:{worker.node}") or b"")
    del document["wire"]
    redis.set(f"bertq:worker:{worker.node}", json.dumps(document))
    assert worker_info.read(redis)[0].wire == [3]
