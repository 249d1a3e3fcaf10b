"""Plain connections to Redis, beside the ones that Celery makes."""

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Seconds that one command may take, and a connection to be made. Longer than any blocking read.
SOCKET_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5.0


def connect(url: str) -> Redis:
    """Return a client for ``url`` that is safe to share between threads.

    It connects at the first command and never repeats one by itself: callers know what may be
    repeated, and until when.
    """
    return Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=CONNECT_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
