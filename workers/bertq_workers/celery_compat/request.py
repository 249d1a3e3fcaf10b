"""Celery's request of a chunk, without its sentences where it is shown."""

from typing import Any

from celery.worker.request import Request


class ChunkRequest(Request):
    """What the worker holds of a chunk's message.

    ``celery inspect active`` asks for ``info`` with the arguments themselves: they are sentences.
    """

    def info(self, safe: bool = False) -> Any:
        """Return what is shown of the request: its arguments by their number alone."""
        return super().info(safe=True)
