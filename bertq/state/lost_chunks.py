"""Finds lost chunks, so that they can be sent again.

A worker takes a message off its queue, and then writes it to ``unacked``. If the worker is killed
in between, the message is lost. Redis may also restart with data that is a second old. A long wait
is not a loss: a chunk that waits behind others, or is being computed, is never sent again.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from bertq.protocol import keys

#: Seconds for which a chunk must be neither queued nor unacknowledged nor answered. A worker needs
#: only milliseconds between taking a message and writing it to ``unacked``.
LOST_AFTER_SECONDS = 8.0

#: Most chunks to look up in one search, with two commands each.
_MAX_LOOKUPS = 500


@dataclass(frozen=True)
class SentChunk:
    """A chunk that was sent and is not answered.

    Attributes:
        task_id: id of the chunk.
        queue: the queue that it was sent to.
        position: its place in the order in which chunks were sent. A chunk that is sent again has
            a new place.
        answered_position: the highest place of an answered chunk of the same queue, in the same
            order. Chunks before it have left the queue.
    """

    task_id: str
    queue: str
    position: int
    answered_position: int


class LostChunks:
    """The search for lost chunks.

    A chunk is lost if, for ``lost_after_seconds``, it is not among the unacknowledged chunks, it
    has no stored rows, and it cannot be waiting: its queue is empty, or later chunks of the queue
    are answered.
    """

    def __init__(self, lost_after_seconds: float = LOST_AFTER_SECONDS) -> None:
        self._lost_after_seconds = lost_after_seconds
        #: chunk and place -> monotonic time at which it was first found missing
        self._missing_since: dict[tuple[str, int], float] = {}

    def find(self, redis: Redis, chunks: Iterable[SentChunk]) -> list[SentChunk]:
        """Return the chunks that are lost; the caller sends them again.

        Args:
            redis: a connection.
            chunks: all chunks that were sent and are not answered.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        missing = self._missing(redis, list(chunks))
        now = time.monotonic()
        since = {_key(chunk): self._missing_since.get(_key(chunk), now) for chunk in missing}
        lost = [chunk for chunk in missing if now - since[_key(chunk)] > self._lost_after_seconds]
        for chunk in lost:
            del since[_key(chunk)]
        self._missing_since = since
        return lost

    def clear(self) -> None:
        """Forget which chunks were missing: the next search begins anew."""
        self._missing_since.clear()

    @staticmethod
    def _missing(redis: Redis, chunks: list[SentChunk]) -> list[SentChunk]:
        """Return the chunks that are neither queued nor unacknowledged nor answered."""
        empty = _empty_queues(redis, {chunk.queue for chunk in chunks})
        taken = [
            chunk
            for chunk in chunks
            if chunk.queue in empty or chunk.position < chunk.answered_position
        ][:_MAX_LOOKUPS]
        if not taken:
            return []
        with redis.pipeline(transaction=False) as pipe:
            for chunk in taken:
                # The task id of a chunk is also the delivery tag of its message.
                pipe.hexists(keys.UNACKED, chunk.task_id)
                pipe.exists(keys.result(chunk.task_id))
            answers: list[Any] = pipe.execute()
        found = zip(taken, answers[::2], answers[1::2], strict=True)
        return [chunk for chunk, is_unacked, is_stored in found if not (is_unacked or is_stored)]


def _key(chunk: SentChunk) -> tuple[str, int]:
    return chunk.task_id, chunk.position


def _empty_queues(redis: Redis, queues: set[str]) -> set[str]:
    if not queues:
        return set()
    names = sorted(queues)
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(name)
        return {name for name, length in zip(names, pipe.execute(), strict=True) if not length}
