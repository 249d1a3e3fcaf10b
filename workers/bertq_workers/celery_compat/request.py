"""Celery's request of a chunk, shown without its sentences."""

from typing import Any

from celery.worker.request import Request


class ChunkRequest(Request):
    """A request that hides its arguments.

    ``celery inspect active`` calls ``info`` for the arguments themselves, which are sentences.
    """

    def info(self, safe: bool = False) -> Any:
        """Return the description of the request, with only the number of its arguments."""
        return super().info(safe=True)
