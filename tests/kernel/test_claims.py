"""Claims of models on queues, on a real server."""

import dataclasses

from redis import Redis

from bertq import adverts, claims, keys
from tests.client.stub import advert
from tests.waiting import eventually


def test_one_model_holds_a_queue(redis: Redis) -> None:
    assert claims.take(redis, "bertq", "mine") == "mine"
    assert claims.take(redis, "bertq", "other") == "mine"
    assert claims.take(redis, "bertq.small", "other") == "other"


def test_a_claim_ends_unless_it_is_renewed(redis: Redis) -> None:
    assert claims.time_left(redis, "bertq") <= 0
    claims.take(redis, "bertq", "mine")
    assert 0 < claims.time_left(redis, "bertq") <= keys.WORKER_TTL
    redis.pexpire(keys.claim("bertq"), 300)
    claims.take(redis, "bertq", "other")
    assert claims.time_left(redis, "bertq") <= 0.3
    redis.pexpire(keys.claim("bertq"), 300)
    claims.take(redis, "bertq", "mine")
    assert claims.time_left(redis, "bertq") > 1
    redis.pexpire(keys.claim("bertq"), 1)
    eventually(lambda: claims.take(redis, "bertq", "other") == "other")


def test_the_last_worker_of_a_model_gives_the_queue_up(redis: Redis) -> None:
    first = dataclasses.replace(advert(["bertq"]), node="first@test")
    second = dataclasses.replace(advert(["bertq"]), node="second@test")
    claims.take(redis, "bertq", "f")
    adverts.publish(redis, first)
    adverts.publish(redis, second)
    adverts.withdraw(redis, first)
    claims.release(redis, "bertq", "f")
    assert claims.take(redis, "bertq", "other") == "f"
    adverts.withdraw(redis, second)
    claims.release(redis, "bertq", "other")  # not its own
    assert claims.take(redis, "bertq", "other") == "f"
    claims.release(redis, "bertq", "f")
    assert claims.take(redis, "bertq", "other") == "other"
