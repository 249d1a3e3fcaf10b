"""Configuration of the Celery app for workers, the dashboard and Celery's other commands."""

from functools import partial
from typing import Any, cast

from celery import Celery
from celery.app.utils import filter_hidden_settings
from kombu import Queue
from kombu.serialization import register

from bertq.protocol import keys, queues, time_to_live, wire
from bertq.redis import sentinel
from bertq.redis.connection import CONNECT_TIMEOUT_SECONDS, SOCKET_TIMEOUT_SECONDS
from bertq.redis.redis_url import redact

#: Seconds without a heartbeat of a chunk's worker after which another worker gets the chunk. The
#: worker renews all its unacknowledged chunks four times as often, so that a chunk that takes long
#: is not computed twice.
VISIBILITY_TIMEOUT_SECONDS = 15

# kombu's annotation knows only text encoders; "binary" says that this one returns bytes.
register(
    wire.SERIALIZER,
    cast(Any, wire.dumps),
    wire.loads,
    content_type=wire.CONTENT_TYPE,
    content_encoding="binary",
)


# The dashboard and similar commands only listen to events and replies, but kombu would also have
# them restore the overdue unacknowledged chunks of workers. They get separate keys, which are
# always empty, so that they need no access to messages, which contain users' sentences. (The
# transport of kombu 5.7 reads these options; the version is pinned, and
# tests/security/test_roles.py checks this.)
_OBSERVER_KEYS = {
    "unacked_key": f"{keys.OBSERVER}unacked",
    "unacked_index_key": f"{keys.OBSERVER}unacked_index",
    "unacked_mutex_key": f"{keys.OBSERVER}unacked_mutex",
}


def configuration(redis_url: str, takes_chunks: bool = True) -> dict[str, Any]:
    """Return the settings of Celery for a broker and result backend at ``redis_url``.

    Args:
        redis_url: checked URL of the broker and the result backend.
        takes_chunks: whether the process may take chunks from queues; if not, it only observes.
    """
    return {
        "broker_url": redis_url,
        # It connects to ``broker_url``: Celery would show the parameters of a second URL.
        "result_backend": "bertq_workers.celery_compat.backend:ReplyBackend",
        # Tasks are JSON and results are msgpack. Never pickle.
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_serializer": wire.SERIALIZER,
        "result_accept_content": [wire.SERIALIZER, "json"],
        "result_expires": time_to_live.RESULT_SECONDS,
        # For the main thread. On the pool's threads, the backend itself waits as long as Redis is
        # unreachable or full.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 60,
        "result_backend_base_sleep_between_retries_ms": 50,
        "result_backend_max_sleep_between_retries_ms": 1000,
        "redis_socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "redis_socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # A chunk is acknowledged after its rows are stored, so a worker that dies loses nothing.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_default_priority": 0,
        "task_queues": [Queue(queues.SHARED), Queue(queues.SMALL)],
        "task_default_queue": queues.SHARED,
        "broker_connection_retry_on_startup": True,
        # Pauses are at most 3 s (celery_compat.expiry): most of an hour.
        "broker_connection_max_retries": 1000,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 10,
            # Chunks have no priorities; kombu would read four lists for each queue.
            "priority_steps": [0],
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
            # If the network drops packets silently, kombu would block the worker's event loop until
            # TCP times out.
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "health_check_interval": SOCKET_TIMEOUT_SECONDS,
            **({} if takes_chunks else _OBSERVER_KEYS),
            **({} if takes_chunks else _sentinel_options(redis_url)),
        },
        **({} if takes_chunks else _tls_settings(redis_url)),
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The pool uses threads around one model, in the worker's own process, because TensorFlow
        # does not survive a fork.
        "worker_pool": "bertq_workers.celery_compat.pool:ChunkPool",
        "worker_concurrency": 1,
        # Do not limit messages: the pool limits the rows in them.
        "worker_prefetch_multiplier": 0,
        "worker_disable_rate_limits": True,
        # The pool's threads share one backend and its connections.
        "result_backend_thread_safe": True,
        "worker_consumer": "bertq_workers.celery_compat.consumer:Consumer",
        "worker_send_task_events": True,
    }


# Flower reads the lengths of queues with a client of its own, which needs these settings.


def _sentinel_options(redis_url: str) -> dict[str, Any]:
    """Return the settings of kombu and Flower for the Sentinels of a URL, if it names some."""
    if not sentinel.is_url(redis_url):
        return {}
    sentinels = sentinel.parse(redis_url).sentinels
    return {"master_name": sentinels.service, "sentinel_kwargs": sentinels.options}


def _tls_settings(redis_url: str) -> dict[str, Any]:
    """Return the settings of TLS to the Redis behind Sentinels."""
    found = sentinel.parse(redis_url).tls if sentinel.is_url(redis_url) else None
    return {} if found is None else {"broker_use_ssl": dict(found)}


def redact_url(app: Celery) -> None:
    """Have an app show its settings with a redacted URL, also one that Celery cannot parse.

    ``celery report``, ``celery inspect conf`` and Flower show them. (They call ``conf.table``,
    which calls ``filter_hidden_settings`` of celery 5.7; the version is pinned, and
    tests/ha/test_failover.py checks this.)
    """
    conf: Any = app.conf
    vars(conf)["table"] = partial(_table, conf)


def _table(conf: Any, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
    settings: dict[str, Any] = type(conf).table(conf, with_defaults, censored=False)
    if not censored:
        return settings
    url = settings.pop("broker_url", None)
    return {
        **({} if url is None else {"broker_url": redact(url)}),
        **filter_hidden_settings(settings),
    }
