"""Chunks that stand-in workers take, their events, and their connections."""

import inspect
import json
import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery.worker.consumer import tasks
from kombu import Consumer
from kombu.transport import redis as stock
from redis import Redis

from bertq import BertClient
from bertq.protocol import limits, queues
from bertq.state import worker_info
from tests.apps import create_app
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import Start

SLOW = 60_000  # milliseconds for 256 rows


@pytest.mark.parametrize(
    ("options", "large", "small"),
    [
        ((), 2, 32),
        (("--concurrency", "2", "--model-name", "news"), 4, 64),
        (("--max-batch-size", "128"), 2, 16),
        (("--prefetch-multiplier", "1"), 1, 1),
    ],
    ids=["plain", "two lanes, a named model", "half the batch", "bound by messages"],
)
def test_a_worker_takes_only_what_fits_its_capacity(
    redis_url: str,
    redis: Redis,
    start: Start,
    options: tuple[str, ...],
    large: int,
    small: int,
) -> None:
    names = queues.of_model("news" if "news" in options else None)
    client = BertClient(redis_url=redis_url, model=names.model, timeout=60)
    start(SLOW, "-Q", "cpu0", *options)
    texts = standins.sentences(256 * 12)
    chunks = 24 if "--max-batch-size" in options else 12
    future = client.encode_async(texts)
    eventually(lambda: redis.llen(names.shared) == chunks - large)
    # A worker without capacity for large chunks still takes small ones.
    futures = [client.encode_async(texts[:16]) for _ in range(100)]
    eventually(lambda: redis.llen(names.small) == 100 - small)
    time.sleep(1.5)
    assert redis.llen(names.shared) == chunks - large
    assert redis.llen(names.small) == 100 - small
    assert redis.hlen("unacked") == large + small
    for other in (future, *futures):
        other.cancel()
    client.close()


def test_a_worker_takes_few_chunks_with_long_texts(
    redis: Redis, client: BertClient, start: Start
) -> None:
    worker = start(256 * SLOW, "-Q", "cpu0")  # a minute for each row
    # Small chunks that wait for another batch do not delay one another.
    futures = [client.encode_async(standins.sentences(17))]
    worker.wait_for(lambda: redis.hlen("unacked") == 1)
    long = "x" * limits.MAX_CHUNK_CHARACTERS
    futures += [client.encode_async([f"{number} {long}"]) for number in range(10)]
    worker.wait_for(lambda: redis.hlen("unacked") == 1 + 8)  # 32 MiB
    worker.wait_for(lambda: redis.llen("bertq.small") == 2)
    time.sleep(1)
    assert redis.hlen("unacked") == 1 + 8
    for future in futures:
        future.cancel()


def test_two_workers_share_a_request(redis: Redis, client: BertClient, start: Start) -> None:
    both = [start(300, "-Q", f"cpu{number}") for number in range(2)]
    texts = standins.sentences(256 * 12)
    np.testing.assert_array_equal(client.encode(texts), standins.rows(texts))
    eventually(lambda: len(standins.encoded_chunks(*both)) == 12)
    assert min(len(standins.encoded_chunks(worker)) for worker in both) >= 4


def test_small_requests_overtake_a_large_one(client: BertClient, start: Start) -> None:
    worker = start(300, "-Q", "cpu0")
    texts = standins.sentences(256 * 20)
    large = client.encode_async(texts)
    worker.wait_for_log(": 256 rows")
    for count in range(1, 6):
        np.testing.assert_array_equal(client.encode(texts[:count]), standins.rows(texts[:count]))
    assert not large.done()
    np.testing.assert_array_equal(large.result(60), standins.rows(texts))


def test_requests_of_many_clients_share_batches(
    redis_url: str, redis: Redis, client: BertClient, start: Start
) -> None:
    start(2000, "-Q", "cpu0")
    first = client.encode_async(standins.sentences(100))
    texts = standins.sentences(40)
    with BertClient(redis_url=redis_url, timeout=60) as other:
        futures = [which.encode_async([text]) for text in texts for which in (client, other)]
        vectors = np.concatenate([future.result(60) for future in futures[::2]])
    np.testing.assert_array_equal(vectors, standins.rows(texts))
    assert first.result(60).shape[0] == 100
    eventually(lambda: worker_info.read(redis)[0].work.sentences == 180)
    assert worker_info.read(redis)[0].work.batches <= 10


def test_a_worker_reconnects(redis: Redis, client: BertClient, start: Start) -> None:
    worker = start(100, "-Q", "cpu0")
    texts = standins.sentences(256 * 20)
    future = client.encode_async(texts)
    worker.wait_for_log(" rows", count=3)
    for _ in range(2):
        redis.client_kill_filter(_type="normal", skipme=True)
        time.sleep(1)
    np.testing.assert_array_equal(future.result(60), standins.rows(texts))
    worker.wait_for_log("Trying to re-establish the connection")
    np.testing.assert_array_equal(client.encode(texts[:7]), standins.rows(texts[:7]))
    # The limits apply to the new connection.
    assert redis.hlen("unacked") <= 3


class Listener:
    """Notes the events of tasks: their kinds in order, by task id."""

    def __init__(self, url: str, redis: Redis) -> None:
        self.received: dict[str, list[str]] = defaultdict(list)
        self._app = create_app(url)
        self._connection = self._app.connection_for_read()
        self._receiver: Any = self._app.events.Receiver(
            self._connection, handlers={"*": self._note}
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        before = redis.pubsub_numpat()
        self._thread.start()
        eventually(lambda: redis.pubsub_numpat() > before)

    def _listen(self) -> None:
        self._receiver.capture(limit=None, timeout=None, wakeup=False)

    def _note(self, event: dict[str, Any]) -> None:
        if event["type"].startswith("task-"):
            self.received[event["uuid"]].append(event["type"])

    def stop(self) -> None:
        self._receiver.should_stop = True
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._connection.release()
        self._app.close()


def test_every_chunk_has_its_events(
    redis_url: str, redis: Redis, client: BertClient, start: Start
) -> None:
    worker = start(20, "-Q", "cpu0")
    listener = Listener(redis_url, redis)
    texts = standins.sentences(256 * 5)
    futures = [client.encode_async(texts), *(client.encode_async(texts[:16]) for _ in range(200))]
    for future in futures:
        future.result(60)
    assert worker.stop() == 0  # the last events are sent before it ends
    eventually(lambda: sum(map(len, listener.received.values())) >= 3 * 205)
    listener.stop()
    assert len(listener.received) == 205
    assert set(map(tuple, listener.received.values())) == {
        ("task-received", "task-started", "task-succeeded")
    }


def test_revoking_a_chunk_does_not_affect_others(
    redis_url: str, redis: Redis, client: BertClient, start: Start
) -> None:
    worker = start(1000, "-Q", "cpu0")
    texts = standins.sentences(256)
    future = client.encode_async(texts)
    eventually(lambda: redis.hlen("unacked") == 1)
    app = create_app(redis_url)
    (entry,) = redis.hvals("unacked")
    task_id = json.loads(entry)[0]["headers"]["id"]
    app.control.revoke(task_id, terminate=True)
    eventually(lambda: redis.hlen("unacked") == 0)
    app.close()
    np.testing.assert_array_equal(client.encode(texts), standins.rows(texts))
    assert worker.process.poll() is None
    future.cancel()


def test_an_idle_worker_uses_no_cpu_time(client: BertClient, start: Start) -> None:
    worker = start(1, "-Q", "cpu0")
    for future in [client.encode_async(["word"]) for _ in range(50)]:
        future.result(60)  # its threads are there
    time.sleep(1)

    def seconds() -> float:
        fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = seconds()
    time.sleep(4)
    assert seconds() - before < 0.4


def test_celery_and_kombu_still_ask_for_the_capacity() -> None:
    # The place where celery sets its own prefetch limit.
    stock_start = inspect.getsource(tasks.Tasks.start)
    assert "channel_qos.can_consume = MethodType" in stock_start
    assert "c.initial_prefetch_count" in stock_start
    assert "c.app.amqp.TaskConsumer(\n" in stock_start
    assert "on_decode_error=c.on_decode_error" in stock_start
    poller = inspect.getsource(stock.MultiChannelPoller.on_poll_start)
    assert "channel.qos.can_consume()" in poller
    assert "self._queues.pop(qname, None)" in inspect.getsource(Consumer.cancel_by_queue)
    assert "self._brpop_read()" in inspect.getsource(stock.Channel.close)
