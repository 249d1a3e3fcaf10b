"""Writes a durable job: messages, plan, record."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from redis import RedisError

from bertq.errors import LostResult, RedisUnavailable
from bertq.protocol import keys, versions
from bertq.protocol.encoding import Encoding
from bertq.redis import redis_url
from bertq.state import counters, durable_jobs
from bertq.state.counters import CountedRequest
from bertq_client import inputs
from bertq_client.context import SessionContext
from bertq_client.durable import plan
from bertq_client.inputs import Text
from bertq_client.outbox.deduplication import Deduplicator, PlannedChunk
from bertq_client.outbox.message import MessageBuilder
from bertq_client.worker_directory import choose_format, max_chunk_rows

_T = TypeVar("_T")

#: Bytes of messages that are written in one transaction.
_TRANSACTION_BYTES = 4 * 1024 * 1024

#: Most attempts to write a job, if Redis loses it each time before it is complete.
_MAX_ATTEMPTS = 3


class Submission:
    """One durable job while it is written to Redis, on the caller's thread.

    Args:
        context: what the threads of the session share.
    """

    def __init__(self, context: SessionContext) -> None:
        self._redis = context.redis
        self._client_id = context.client_id
        self._directory = context.directory
        self._retry = context.retry()
        self._check_open = context.check_open
        self._began_at = time.monotonic()
        self._replica_seconds = context.timings.replica_seconds
        self._address = redis_url.redact(context.url)
        self._id = uuid.uuid4().hex
        self._wire = versions.WIRE_VERSION

    def write(self, texts: Sequence[Text], queue: str, encoding: Encoding, ttl: int) -> str:
        """Write the job and return its id: from then on only a worker is needed.

        Raises:
            BadInputType, BadInputValue: the sentences are invalid.
            VersionMismatch: the workers read no wire format that the client knows.
            RedisUnavailable, RedisFull: Redis is unreachable or full, or no replica has confirmed
                the job.
            LostResult: Redis has lost its data repeatedly during the call.
        """
        deduplicator, checked = Deduplicator(), list[Text]()
        for part in inputs.checked_parts(texts, is_tokenized=encoding.is_tokenized):
            deduplicator.add(part)
            checked += part
        workers = self._run(lambda: self._directory.serving(queue))
        chunks = deduplicator.plan_chunks(max_chunk_rows(workers))
        self._wire = choose_format(workers)
        try:
            for _ in range(_MAX_ATTEMPTS):
                if self._commit(checked, chunks, queue, encoding, ttl):
                    return self._id
            raise LostResult(f"Redis lost its data {_MAX_ATTEMPTS} times while the job was written")
        except BaseException:
            # The caller does not get the id. The job may be committed nevertheless: the answer was
            # lost, or Ctrl-C came after it. If Redis is unreachable, the written keys expire.
            with suppress(RedisError):
                durable_jobs.remove(self._redis, self._id, queue)
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
            self._run(
                partial(durable_jobs.write_messages, self._redis, self._id, messages, first=first)
            )
        packed = plan.pack(chunks)
        committed = self._run(
            lambda: durable_jobs.commit(
                self._redis,
                self._id,
                client=self._client_id,
                queue=queue,
                rows=len(texts),
                places=[len(chunk.places) for chunk in chunks],
                plan=packed,
                size=size,
                options=json.dumps(encoding.redact()),
                ttl=ttl,
            )
        )
        committed = committed and self._wait_for_replica()
        if committed:
            request = CountedRequest(queue, len(texts), time.monotonic())
            with suppress(RedisError):
                counters.count(self._redis, self._client_id, [request])
        return committed

    def _wait_for_replica(self) -> bool:
        """Wait until a replica has the job, if there are replicas; return whether Redis has it.

        Raises:
            RedisUnavailable: no replica has confirmed it in time.
        """
        deadline = time.monotonic() + self._replica_seconds
        while time.monotonic() < deadline:
            has_job, is_safe = self._run(lambda: durable_jobs.replicate(self._redis, self._id))
            if is_safe or not has_job:
                return has_job
        raise RedisUnavailable(
            f"no replica of Redis at {self._address} has confirmed the job within "
            f"{self._replica_seconds:g} s, and a failover would lose it: check the replicas "
            "(INFO replication), and submit it again"
        )

    def _messages(
        self, texts: Sequence[Text], chunks: list[PlannedChunk], queue: str, encoding: Encoding
    ) -> Iterator[dict[int, str]]:
        """Return the messages of all chunks, a few at a time."""
        # The reply stream has the job's id, which tells the worker that the job is durable.
        # The messages have no time of writing: workers put them on the queue later, so it would say
        # nothing about the queue.
        builder, options = MessageBuilder(self._id, has_time=False), encoding.to_wire()
        messages: dict[int, str] = {}
        size = 0
        for number, chunk in enumerate(chunks):
            chunk_texts = [texts[index] for index in chunk.sentences]
            message = builder.build(
                keys.task_id(self._id, number), chunk_texts, queue, options, wire=self._wire
            )
            messages[number] = message
            size += len(message)
            if size >= _TRANSACTION_BYTES:
                yield messages
                messages, size = {}, 0
        if messages:
            yield messages

    def _run(self, command: Callable[[], _T]) -> _T:
        """Run a command of Redis, with retries."""
        return self._retry.call(command, since=self._began_at, check=self._check_open)
