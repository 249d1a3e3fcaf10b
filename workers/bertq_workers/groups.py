"""Encodes chunks of small requests in groups: one tokenizer call, one batch, one round trip.

Celery's trace of a task costs more than a sentence on a fast device. A group runs without it, on
one thread. Celery still has the request of each chunk, so revoking, events and counts work. It does
not send the signals ``task_prerun``, ``task_postrun`` and ``task_success``; if anything is
connected to one of them, no chunk is grouped.

The next group begins when the last one is answered, so that the two do not compete for the
interpreter, and more chunks gather in Redis for one batch. There are as many groups at once as the
device has batches. If a group waits for the device, others are prepared to be computed with it.

Only chunks for which everything goes well are completed here. All others run again, each alone,
with Celery's trace: there, each error belongs to one chunk.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from celery import signals

from bertq import tracing
from bertq.errors import BadInput
from bertq.protocol import versions, wire
from bertq.protocol.encoding import PLAIN, Encoding
from bertq.state import durable_jobs, jobs, results
from bertq.state.results import ComputedChunk
from bertq_workers.batching import chunk
from bertq_workers.celery_compat.request import ChunkRequest, is_redelivered
from bertq_workers.observability import logs
from bertq_workers.observability.meter import Meter

if TYPE_CHECKING:
    from bertq_bert import Encoder
    from bertq_workers.batching.batcher import Batcher

log = logging.getLogger("bertq.worker")

#: Signals that Celery's trace sends.
_SIGNALS = (signals.task_prerun, signals.task_postrun, signals.task_success)


@dataclass(frozen=True)
class Answer:
    """A chunk of a group that is answered.

    Attributes:
        summary: the text that events show as the task's result.
        seconds: the time that encoding and storing took.
    """

    summary: str
    seconds: float


class GroupEncoder:
    """Encodes groups of chunks, on threads of the pool.

    Args:
        encoder: the model.
        batcher: runs it.
        backend: the result backend.
        meter: counts chunks.
        shows_tokens: whether clients may request the tokens.
    """

    def __init__(
        self,
        encoder: "Encoder",
        batcher: "Batcher",
        backend: Any,
        meter: Meter,
        *,
        shows_tokens: bool,
    ) -> None:
        self._encoder = encoder
        self._batcher = batcher
        self._backend = backend
        self._meter = meter
        self._shows_tokens = shows_tokens
        # Rows with a vector for each token depend on the longest sentence of their chunk.
        self._has_vectors = len(encoder.row_shape) == 1

    def accepts(self, request: ChunkRequest, record: jobs.JobRecord | None) -> bool:
        """Return whether a chunk can be in a group.

        It belongs to an active job of one chunk, was never begun, and needs nothing of Celery's
        trace.

        Args:
            request: Celery's request of the chunk.
            record: the record of its job, read for the tag of its message; None if there is none.
        """
        headers = request.request_dict
        return (
            self._has_vectors
            and record is not None
            and record.is_active
            and record.chunks == 1
            and record.attempts == record.redeliveries == 0
            and record.fingerprint in (None, self._encoder.fingerprint)
            and versions.is_known(headers["wire"])
            and request.message.delivery_tag == request.id
            and request.id.endswith("-0")
            and headers["reply_to"] is not None
            and not durable_jobs.is_durable(request.id, headers["reply_to"])
            and not is_redelivered(request)
            and not any(signal.receivers for signal in _SIGNALS)
        )

    def may_begin(self, running: int) -> bool:
        """Return whether another group may begin while some are encoded."""
        return running < self._batcher.max_batches or self._batcher.has_waiting_small_chunks

    def encode(
        self, requests: Sequence[ChunkRequest], on_wait: Callable[[], object]
    ) -> list[Answer | None]:
        """Encode a group of chunks.

        Args:
            requests: Celery's requests of the chunks.
            on_wait: called if the chunks wait for other batches.

        Returns:
            For each chunk, its answer; None if it must run alone.
        """
        answers: dict[str, Answer] = {}
        for encoding, members in self._by_encoding(requests):
            try:
                answers |= self._encode(members, encoding, on_wait)
            except Exception as error:
                log.debug("a group of %d chunks is split: %s", len(members), type(error).__name__)
        return [answers.get(request.id) for request in requests]

    def _by_encoding(
        self, requests: Sequence[ChunkRequest]
    ) -> list[tuple[Encoding, list[ChunkRequest]]]:
        """Return the requests by their encoding options, without those that are malformed."""
        found: defaultdict[Encoding, list[ChunkRequest]] = defaultdict(list)
        for request in requests:
            try:
                texts, *options = request.args
                encoding = Encoding.from_wire(*options) if any(options) else PLAIN
                chunk.check(texts, is_tokenized=encoding.is_tokenized)
            except (BadInput, TypeError, ValueError):
                continue
            is_allowed = self._shows_tokens or not encoding.show_tokens
            if is_allowed and encoding.output == "rows":
                found[encoding].append(request)
        return list(found.items())

    def _encode(
        self, requests: list[ChunkRequest], encoding: Encoding, on_wait: Callable[[], object]
    ) -> dict[str, Answer]:
        """Encode chunks with the same options; return the answers by task id."""
        started = time.perf_counter()
        texts = list(chain.from_iterable(request.args[0] for request in requests))
        ids, truncated = chunk.tokenize(self._encoder, texts, encoding)
        future = self._batcher.submit_small(ids)
        if not future.done():
            on_wait()
        rows = chunk.wait_for_rows(future, lambda: self._is_any_active(requests))
        finished = chunk.finish(self._encoder, rows, encoding)
        shown = self._encoder.tokens(ids) if encoding.show_tokens else None
        lengths = list(map(len, ids))
        computed, made, start = [], [], 0
        for request in requests:
            part = slice(start, start + len(request.args[0]))
            cut = [row - start for row in truncated if part.start <= row < part.stop]
            result = wire.ChunkResult(
                finished[part],
                self._encoder.fingerprint,
                shown[part] if shown is not None else None,
                cut,
                self._encoder.max_seq_len,
                lengths[part] if encoding.count_tokens else None,
                request.request_dict["wire"],
            )
            computed.append(
                ComputedChunk(
                    request.id,
                    results.success(request.id, result),
                    request.request_dict["reply_to"],
                    request.request_dict["notice"],
                )
            )
            tokens = sum(lengths[part])
            tracing.record_chunk(
                request.request_dict["traceparent"],
                request.request_dict["sent"],
                future.started_at,
                len(result.rows),
                tokens,
            )
            made.append((request, result, tokens))
            start = part.stop
        self._backend.store_together(computed)
        seconds = time.perf_counter() - started
        for request, result, tokens in made:
            sent = request.request_dict["sent"]
            waited = None if None in (sent, future.started_at) else future.started_at - sent
            self._meter.count_chunk(len(result.rows), tokens, len(result.cut), waited)
            logs.log_computed(request.id, len(result.rows), tokens, seconds)
        return {request.id: Answer(repr(result), seconds) for request, result, _ in made}

    def _is_any_active(self, requests: Sequence[ChunkRequest]) -> bool:
        """Return whether the job of any of these chunks is still active."""
        job_ids = [request.id.rpartition("-")[0] for request in requests]
        return any(jobs.read(self._backend.client, job_id).is_active for job_id in job_ids)
