"""Claims of models on queues, on a real server."""

from redis import Redis

from bertq.protocol import keys, time_to_live
from bertq.state import claims
from tests.waiting import eventually


def test_one_model_claims_a_queue(redis: Redis) -> None:
    assert claims.take(redis, "bertq", "mine") == "mine"
    assert claims.take(redis, "bertq", "other") == "mine"
    assert claims.take(redis, "bertq.small", "other") == "other"


def test_a_claim_ends_unless_it_is_renewed(redis: Redis) -> None:
    assert claims.time_left(redis, "bertq") <= 0
    claims.take(redis, "bertq", "mine")
    assert 0 < claims.time_left(redis, "bertq") <= time_to_live.WORKER_SECONDS
    redis.pexpire(keys.claim("bertq"), 300)
    claims.take(redis, "bertq", "other")
    assert claims.time_left(redis, "bertq") <= 0.3
    redis.pexpire(keys.claim("bertq"), 300)
    claims.take(redis, "bertq", "mine")
    assert claims.time_left(redis, "bertq") > 1
    redis.pexpire(keys.claim("bertq"), 1)
    eventually(lambda: claims.take(redis, "bertq", "other") == "other")


def test_a_stopping_worker_shortens_its_claim(redis: Redis) -> None:
    claims.take(redis, "bertq", "mine")
    claims.release(redis, "bertq", "other")  # not its own
    renewal = time_to_live.WORKER_SECONDS / 3
    assert claims.time_left(redis, "bertq") > 2 * renewal
    claims.release(redis, "bertq", "mine")
    # Long enough for another worker of the model to renew it, or to expire.
    assert renewal < claims.time_left(redis, "bertq") <= renewal + 1
    assert claims.take(redis, "bertq", "other") == "mine"
    assert claims.take(redis, "bertq", "mine") == "mine"
    assert claims.time_left(redis, "bertq") > 2 * renewal
    claims.release(redis, "gone", "mine")
    assert claims.time_left(redis, "gone") < 0
