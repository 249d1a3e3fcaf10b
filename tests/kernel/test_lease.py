"""Leases on a real server; tests/kernel/test_claims.py has those of queues."""

from typing import Any

from redis import Redis

from bertq.redis import lease
from tests.waiting import eventually


def test_one_holder_at_a_time_has_a_lease(redis: Redis) -> None:
    assert lease.take(redis, "a", "me", 15) == "me"
    assert lease.take(redis, "a", "other", 15) == "me"
    assert lease.take(redis, "b", "other", 15) == "other"


def test_a_lease_ends_unless_its_holder_renews_it(redis: Any) -> None:
    lease.take(redis, "a", "me", 15)
    assert 10 < redis.ttl("a") <= 15
    assert lease.take(redis, "a", "me", 30) == "me"
    assert 15 < redis.ttl("a") <= 30
    redis.pexpire("a", 50)
    lease.take(redis, "a", "other", 30)
    eventually(lambda: lease.take(redis, "a", "other", 15) == "other")


def test_a_holder_renews_its_lease_in_a_full_redis(redis: Any) -> None:
    lease.take(redis, "a", "me", 5)
    redis.config_set("maxmemory", 1)
    try:
        assert lease.take(redis, "a", "me", 30) == "me"
    finally:
        redis.config_set("maxmemory", 0)
    assert redis.ttl("a") > 5


def test_only_the_holder_releases_a_lease(redis: Any) -> None:
    lease.take(redis, "a", "me", 15)
    lease.release(redis, "a", "other")
    assert lease.take(redis, "a", "other", 15) == "me"
    lease.release(redis, "a", "me", 6)
    assert 0 < redis.ttl("a") <= 6
    lease.release(redis, "a", "me")
    assert lease.take(redis, "a", "other", 15) == "other"
    lease.release(redis, "gone", "me")
    assert not redis.exists("gone")
