"""Writes a durable job: messages, plan, record."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from redis import Redis, RedisError

from bertq.errors import LostResult
from bertq.protocol import keys
from bertq.protocol.encoding import Encoding
from bertq.state import counters, durable_jobs
from bertq_client import inputs
from bertq_client.durable import plan
from bertq_client.inbox.assembly import Deduplicator, PlannedChunk
from bertq_client.inputs import Text
from bertq_client.outbox.message import Envelope
from bertq_client.retry import Retry
from bertq_client.worker_directory import WorkerDirectory, chunk_rows

_T = TypeVar("_T")

#: Bytes of messages that are written in one transaction.
_AT_ONCE = 4 * 1024 * 1024

#: Most attempts to write a job, if Redis loses it each time before it is complete.
_TIMES = 3


class Submission:
    """One durable job while it is written to Redis, on the caller's thread.

    Args:
        redis: a connection.
        client_id: id of the client, for the counters.
        directory: the workers, as the client knows them.
        retry: retries while Redis is unreachable or full.
        check: raises if the client is closed.
    """

    def __init__(
        self,
        redis: Redis,
        client_id: str,
        directory: WorkerDirectory,
        retry: Retry,
        check: Callable[[], object],
    ) -> None:
        self._redis = redis
        self._client_id = client_id
        self._directory = directory
        self._retry = retry
        self._check = check
        self._began = time.monotonic()
        self._id = uuid.uuid4().hex

    def write(self, texts: Sequence[Text], queue: str, encoding: Encoding, ttl: int) -> str:
        """Write the job and return its id: from then on only a worker is needed.

        Raises:
            BadInputType, BadInputValue: the sentences are invalid.
            RedisUnavailable, RedisFull: Redis is unreachable or full.
            LostResult: Redis has lost its data repeatedly during the call.
        """
        distinct = Deduplicator()
        for part in inputs.parts(texts, is_tokenized=encoding.is_tokenized):
            distinct.add(part)
        workers = self._persist(lambda: self._directory.serving(queue))
        chunks = distinct.deal(chunk_rows(workers))
        try:
            for _ in range(_TIMES):
                if self._commit(texts, chunks, queue, encoding, ttl):
                    return self._id
            raise LostResult(f"Redis lost its data {_TIMES} times while the job was written")
        except BaseException:
            # The caller does not get the id. The job may be committed nevertheless: the answer was
            # lost, or Ctrl-C came after it. If Redis is unreachable, the written keys expire.
            with suppress(RedisError):
                durable_jobs.remove(self._redis, self._id)
            raise

    def _commit(
        self,
        texts: Sequence[Text],
        chunks: list[PlannedChunk],
        queue: str,
        encoding: Encoding,
        ttl: int,
    ) -> bool:
        size = 0
        for messages in self._messages(texts, chunks, queue, encoding):
            first, size = not size, size + sum(map(len, messages.values()))
            self._persist(
                partial(durable_jobs.write_messages, self._redis, self._id, messages, first=first)
            )
        packed = plan.pack(chunks)
        committed = self._persist(
            lambda: durable_jobs.commit(
                self._redis,
                self._id,
                client=self._client_id,
                queue=queue,
                rows=len(texts),
                places=[len(chunk.places) for chunk in chunks],
                plan=packed,
                size=size,
                options=json.dumps(encoding.public()),
                ttl=ttl,
            )
        )
        if committed:
            with self._redis.pipeline() as pipe, suppress(RedisError):
                counters.count(pipe, client=self._client_id, queue=queue, sizes=[len(texts)])
                pipe.execute()
        return committed

    def _messages(
        self, texts: Sequence[Text], chunks: list[PlannedChunk], queue: str, encoding: Encoding
    ) -> Iterator[dict[int, str]]:
        """Return the messages of all chunks, a few at a time."""
        # The reply stream has the job's id, which tells the worker that the job is durable.
        # The messages have no time of writing: workers put them on the queue later, so it would say
        # nothing about the queue.
        envelope, options = Envelope(self._id, dated=False), encoding.to_wire()
        some: dict[int, str] = {}
        size = 0
        for number, chunk in enumerate(chunks):
            own = [texts[index] for index in chunk.sentences]
            message = envelope.seal(keys.task_id(self._id, number), own, queue, options)
            some[number] = message
            size += len(message)
            if size >= _AT_ONCE:
                yield some
                some, size = {}, 0
        if some:
            yield some

    def _persist(self, act: Callable[[], _T]) -> _T:
        return self._retry.persist(act, self._began, self._check)
