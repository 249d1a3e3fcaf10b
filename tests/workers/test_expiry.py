"""Every key that bertq, celery and kombu create has a time to live."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from kombu.transport import redis as kombu_redis
from redis import Redis

from bertq import BertClient
from bertq.protocol import keys, time_to_live
from bertq_workers.celery_compat import expiry
from tests.apps import create_app
from tests.conftest import clean_environ
from tests.waiting import eventually
from tests.workers.standins import Start, sentences

DAY = time_to_live.QUEUE_SECONDS

#: The only key that must not expire: it shows whether Redis has lost its data.
PERMANENT = {keys.EPOCH.encode()}


def without_ttl(redis: Redis) -> set[bytes]:
    """Return the keys that never expire; they must not be."""
    names: Any = redis.keys()
    return {name for name in names if redis.ttl(name) == -1} - PERMANENT


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    made = create_app(redis_url)
    made.amqp_cls = "bertq_workers.celery_compat.expiry:AMQP"
    yield made
    made.close()


@contextmanager
def celery(redis_url: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command of Celery that only observes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "bertq", *arguments],
        env=clean_environ() | {"BERTQ_REDIS_URL": redis_url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def test_every_key_expires_at_every_moment(redis: Redis, redis_url: str, start: Start) -> None:
    seen: set[bytes] = set()

    def scan() -> None:
        names: Any = redis.keys()
        seen.update(names)

    with celery(redis_url, "events", "--dump"):
        worker = start(20, "-Q", "gpu0")
        texts = sentences(5000)
        with BertClient(redis_url=redis_url, timeout=60) as client:
            future = client.encode_async(texts)
            job = client.submit(texts)
            small = client.encode_async(["one"])
            client.encode_async(texts).cancel()
            with celery(redis_url, "inspect", "stats") as inspect:
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline and inspect.poll() is None:
                    scan()
            for pending in (future, small):
                pending.result()
            assert job.result(30).shape[0] == len(texts)
            scan()
        # A worker dies with chunks, and with more waiting.
        with BertClient(redis_url=redis_url, timeout=60) as client:
            client.encode_async(texts)
            eventually(lambda: redis.hlen(keys.UNACKED))
            worker.kill()
            scan()
    scan()
    expected = {keys.UNACKED, keys.UNACKED_INDEX, "bertq", "_kombu.binding.celeryev"}
    expected |= {"_kombu.binding.reply.celery.pidbox", "_kombu.binding_permanent.gpu0"}
    assert {name.encode() for name in expected} <= seen
    assert not without_ttl(redis)


def test_a_living_worker_extends_its_queues(redis: Redis, start: Start) -> None:
    redis.lpush("gpu1", "message")
    redis.hset(keys.UNACKED, "tag", "message")
    worker = start(1, "-Q", "gpu0")
    redis.expire(keys.UNACKED, 100)
    eventually(lambda: redis.ttl(keys.UNACKED) > DAY - 20, 15)
    assert redis.ttl("gpu1") == -1  # it serves another
    worker.kill()


def test_restored_chunks_expire(app: Celery, redis: Redis) -> None:
    with app.connection_for_write() as connection:
        channel: Any = connection.channel()
        redis.hset("unacked", "tag", "x")
        with redis.pipeline() as pipe:
            payload = {"body": "", "headers": {}, "properties": {"delivery_info": {}}}
            channel._do_restore_message(payload, "", "gpu7", pipe)
            pipe.execute()
    assert DAY - 5 < redis.ttl("gpu7") <= DAY


def test_messages_of_celery_itself_expire(app: Celery, redis: Redis) -> None:
    app.send_task("bertq.encode", queue="gpu7")
    assert redis.llen("gpu7") == 1
    assert without_ttl(redis) == set()


def test_a_reply_that_nobody_reads_expires(app: Celery, redis: Redis) -> None:
    with app.connection_for_write() as connection:
        channel: Any = connection.channel()
        channel._put("x.reply.celery.pidbox", {"body": "", "properties": {}})
        assert DAY - 5 < redis.ttl("x.reply.celery.pidbox") <= DAY
        channel._expires["y"] = 10_000
        channel._put("y", {"body": "", "properties": {}})
        assert 0 < redis.ttl("y") <= 10
        batch = channel.create_publish_batch(10)
        message = {"body": "", "properties": {"delivery_info": {}}}
        batch.publish(message, exchange="", routing_key="z")
        batch.flush()
        batch.close()
        assert DAY - 5 < redis.ttl("z") <= DAY


def test_only_connections_to_redis_have_another_transport() -> None:
    assert issubclass(expiry.Connection("redis://h").get_transport_cls(), kombu_redis.Transport)
    assert expiry.Connection("rediss://h").get_transport_cls() is expiry.ExpiringTransport
    assert expiry.Connection("memory://").get_transport_cls().driver_type == "memory"


def test_kombu_still_creates_keys_without_a_time_to_live(redis_url: str, redis: Redis) -> None:
    create_app(redis_url).send_task("bertq.encode", queue="gpu7")
    names = {b"gpu7", b"_kombu.binding.gpu7", b"_kombu.binding_permanent.gpu7"}
    assert names <= without_ttl(redis)
