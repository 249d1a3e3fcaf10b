"""Checks of a server's settings: Redis Cluster is refused, eviction of keys causes a warning."""

from typing import Any

from redis import Redis, ResponseError
from redis.exceptions import ClusterError

#: Reason and remedy, after the address of a server.
NO_CLUSTER = (
    "runs in cluster mode, and Redis Cluster is not supported: use a Redis or Valkey server with "
    "cluster-enabled no"
)


def refuse_cluster(redis: Redis) -> None:
    """Refuse a node of Redis Cluster, which cannot change keys of several slots in one step.

    Raises:
        redis.exceptions.ClusterError: it is one (see ``bertq.redis.connection.explain``).
        redis.RedisError: Redis does not answer.
    """
    if _info(redis, "cluster").get("cluster_enabled"):
        raise ClusterError("cluster_enabled:1")


def eviction_warning(redis: Redis) -> str | None:
    """Return a warning if the server evicts keys when its memory is full.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    policy = _info(redis, "memory").get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return (
        f"Redis has maxmemory-policy {policy} and may delete chunks and results when its memory is "
        "full: set maxmemory-policy noeviction"
    )


def _info(redis: Redis, section: str) -> dict[str, Any]:
    try:
        found: Any = redis.info(section)
    except ResponseError:
        return {}  # this user may not run INFO
    return dict(found)
