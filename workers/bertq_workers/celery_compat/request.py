"""Celery's request of a chunk.

Relies on private parts of celery 5.7 (the version is pinned, and tests/workers/test_request.py
checks them): a request that is created with a decoded body keeps it, and the trace of its task does
not decode it again.
"""

from typing import Any

from celery.worker.request import Request


def is_redelivered(request: Any) -> bool:
    """Return whether a chunk was returned to its queue before, by the request of its task.

    Relies on a private part of kombu and celery 5.7 (the versions are pinned; the tests
    test_transport.py and test_metrics.py check it): kombu marks a message that it returns to its
    queue, and Celery passes the mark on.
    """
    return bool((request.delivery_info or {}).get("redelivered"))


def return_message(request: Any) -> None:
    """Return the message of a request to its queue, unless it is acknowledged.

    A message that has come back before is dropped, because the same error would return it forever.
    Its client sends it again if there is no answer.
    """
    request.reject(requeue=not is_redelivered(request))


class ChunkRequest(Request):
    """A request that hides its arguments, and whose body is decoded once.

    ``celery inspect active`` calls ``info`` for the arguments themselves, which are sentences.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        # ``message_parsing`` has decoded the body to check it; the message keeps the result.
        super().__init__(message, **{**options, "body": message.payload, "decoded": True})

    def info(self, safe: bool = False) -> Any:
        """Return the description of the request, with only the number of its arguments."""
        return super().info(safe=True)
