"""The Celery task of bertq: encode one chunk of sentences."""

import logging
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from celery import Task
from celery.exceptions import Ignore
from redis import Redis, RedisError

from bertq import tracing
from bertq.celery import app
from bertq.errors import BadInput, BadInputValue, ModelMismatch
from bertq.protocol import keys, queues, versions
from bertq.protocol.encoding import Encoding
from bertq.protocol.queues import ENCODE_TASK
from bertq.protocol.wire import ChunkResult
from bertq.state import durable_jobs, jobs
from bertq_bert.errors import BadRequest
from bertq_workers.batching import chunk, tokens
from bertq_workers.celery_compat import celery_logs
from bertq_workers.celery_compat.failures import summarize, type_name
from bertq_workers.celery_compat.request import is_redelivered
from bertq_workers.observability import logs
from bertq_workers.observability.meter import Meter
from bertq_workers.returns import queue_of, return_to_other
from bertq_workers.startup import steps

if TYPE_CHECKING:
    from bertq_bert import Encoder
    from bertq_workers.batching.batcher import Batcher

log = logging.getLogger("bertq.worker")

#: Maximum attempts, and maximum redeliveries (whether the chunk was begun or not), of a chunk. A
#: chunk that ends or hangs its worker each time would otherwise be delivered forever.
MAX_ATTEMPTS, MAX_RETURNS = 3, 20

#: Errors that a request's caller causes, and only the caller can prevent.
CALLER_ERRORS = (BadInput, BadRequest)


class PoisonedChunk(Exception):
    """A chunk was begun several times, and each time its worker died or hung."""


class EncodeTask(Task):  # type: ignore[type-arg]  # generic in the stubs alone
    """A Celery task with the one model of the process.

    Attributes:
        encoder: the loaded model; set at the start of the worker, before the first chunk.
        batcher: runs the model for all chunks in the worker.
        meter: counts chunks and batches.
        show_tokens: whether clients may request the tokens.
    """

    #: Read by Celery. This class hides the sentences from ``celery inspect``.
    Request = "bertq_workers.celery_compat.request:ChunkRequest"

    encoder: "ClassVar[Encoder | None]" = None
    batcher: "ClassVar[Batcher | None]" = None
    meter: ClassVar[Meter] = Meter()
    show_tokens: ClassVar[bool] = True

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Count and log a chunk that failed in the task's body, before it or after it."""
        reason = f"{type_name(exc)}: {summarize(exc)}"
        if isinstance(exc, CALLER_ERRORS):
            self.meter.count_rejected()
            logs.log_rejected(task_id, reason)
        else:
            self.meter.count_failed()
            logs.log_failed(task_id, reason)


# ``shared=True`` would add the task to every other Celery app of the process.
@app.task(bind=True, base=EncodeTask, name=ENCODE_TASK, shared=False)
def encode(self: EncodeTask, texts: Any, options: Any = None) -> ChunkResult:
    """Encode one chunk, on a thread of the pool.

    Args:
        self: the task; passed by Celery.
        texts: list of str, or of pairs (lists of two); of lists of str if they are tokenized.
        options: fields of ``bertq.protocol.encoding.Encoding`` that differ from the defaults.

    Returns:
        Rows ``[len(texts), *row_shape]``; compressed for a sparse model. Or, if the options request
        them instead, tokens or texts.

    Raises:
        Ignore: the job is not active any more; Celery acknowledges and forgets the chunk.
        Reject: another worker of the queue must compute the chunk; Celery returns it.
        VersionMismatch: the client has another version, and so have all workers.
        BadInput: the message does not contain a chunk of sentences.
        SentenceTooLong: sentences are too long, and the options do not allow truncating them.
        ModelMismatch: another model has answered a chunk of the same job, and no worker has it.
        ModelError: the model cannot read the sentences (it has no such prompt, or does not accept
            pairs) or cannot return such rows, or its device has too little memory for them.
        TokenizerError: the text cannot be tokenized.
        OverflowError: a number in the rows is too large for the precision.
        PoisonedChunk: the chunk has ended too many workers.
    """
    task_id = str(self.request.id)
    encoder, batcher = self.encoder, self.batcher
    if encoder is None or batcher is None:
        raise RuntimeError("this worker has no model: start it with celery -A bertq worker")
    record, is_suspicious = _check_job(self, encoder, task_id)
    is_again = is_suspicious or is_redelivered(self.request)
    if is_again:
        self.meter.count_redelivered()
    started = time.perf_counter()
    encoding = Encoding.from_wire(options)
    if encoding.show_tokens and not self.show_tokens:
        raise BadInputValue("this worker shows no tokens (--no-show-tokens-to-client)")
    if encoding.output != "rows":
        return replace(tokens.answer(encoder, texts, encoding), wire=self.request.get("wire"))
    ids, truncated = chunk.tokenize(encoder, texts, encoding)
    on_begin = partial(_count_attempt, self, task_id) if is_suspicious else None
    future = batcher.submit(ids, on_begin)
    try:
        rows = chunk.wait_for_rows(future, partial(_is_active, self, task_id))
    except Ignore:
        logs.log_dropped(task_id)
        raise
    seconds = time.perf_counter() - started
    # A job with one chunk cannot mix models, but the reader of a durable job needs the fingerprint.
    if (
        record is not None
        and record.fingerprint is None
        and (record.chunks > 1 or durable_jobs.is_durable(task_id, self.request.reply_to))
    ):
        pinned = _pin_model(self, task_id, encoder.fingerprint)
        if pinned != encoder.fingerprint:
            _forget_attempts(self, task_id)
        _check_model(self, encoder, pinned)
    lengths = list(map(len, ids))
    num_tokens = sum(lengths)
    shown = encoder.tokens(ids) if encoding.show_tokens else None
    finished = chunk.finish(encoder, rows, encoding)
    # The waiting time of a redelivered chunk includes its time in the other worker.
    waited = None if is_again else _waiting_seconds(self, future.started_at)
    self.meter.count_chunk(len(finished), num_tokens, len(truncated), waited)
    tracing.record_chunk(
        self.request.get("traceparent"),
        self.request.get("sent"),
        future.started_at,
        len(finished),
        num_tokens,
    )
    logs.log_computed(task_id, len(finished), num_tokens, seconds)
    counted = lengths if encoding.count_tokens else None
    return ChunkResult(
        finished, encoder.fingerprint, shown, truncated, encoder.max_seq_len, counted,
        self.request.get("wire"),
    )  # fmt: skip


def _check_job(
    task: EncodeTask, encoder: "Encoder", task_id: str
) -> tuple[jobs.JobRecord | None, bool]:
    """Return the record of the chunk's job, and whether the chunk may have ended a worker.

    Raises:
        Ignore, Reject, VersionMismatch, BadInputValue, ModelMismatch, PoisonedChunk: as in
            ``encode``.
    """
    _check_format(task)
    delivery = "new"
    if is_redelivered(task.request):
        # Groups of small requests do not count the first attempt.
        delivery = "uncounted" if queues.is_small(queue_of(task.request)) else "again"
    record = _count_delivery(task, task_id, delivery)
    if record is None:
        return None, is_redelivered(task.request)
    if not record.is_active:
        logs.log_dropped(task_id)
        raise Ignore()
    _check_number(task_id, record)
    _check_attempts(record)
    if record.fingerprint is not None:
        _check_model(task, encoder, record.fingerprint)
    return record, record.attempts > 0


def _check_format(task: EncodeTask) -> None:
    """Check the wire format of a message.

    Raises:
        Reject: another worker of the queue reads it.
        VersionMismatch: no worker does.
    """
    # A header of bertq. Celery makes attributes of the request from headers that it does not know.
    wire = task.request.get("wire")
    if type(wire) is int and not versions.is_known(wire):
        reason = f"which reads wire format {wire}"
        return_to_other(_redis(task), task.request, lambda worker: wire in worker.wire, reason)
    versions.check(wire, sender="client", receiver="worker")


def _is_active(task: EncodeTask, task_id: str) -> bool:
    record = _count_delivery(task, task_id, "")
    return record is None or record.is_active


def _waiting_seconds(task: EncodeTask, started_at: float | None) -> float | None:
    """Return the seconds from sending a chunk to computing it for the first time, if known."""
    sent = task.request.get("sent")  # a header of bertq, a number
    return None if sent is None or started_at is None else started_at - sent


def _count_delivery(task: EncodeTask, task_id: str, delivery: str) -> jobs.JobRecord | None:
    """Return the record of the chunk's job, or None if Redis cannot be reached.

    A delivery also counts the first attempt, which is most likely the only one. Counting one
    too many does no harm: from the second attempt on, a chunk is computed alone, and the attempt is
    counted when that begins.
    """
    parts = keys.split_task_id(task_id)
    if parts is None:
        return jobs.JobRecord(is_active=False, chunks=0, fingerprint=None)
    try:
        return jobs.count_delivery(
            _redis(task),
            *parts,
            delivery,
            queue=queue_of(task.request),
            fingerprint="" if task.encoder is None else task.encoder.fingerprint,
        )
    except RedisError:
        # Redis cannot be reached for a moment. Compute the chunk; the backend retries storing the
        # rows.
        return None


def _check_number(task_id: str, record: jobs.JobRecord) -> None:
    parts = keys.split_task_id(task_id)
    if parts is not None and parts[1] >= record.chunks:
        raise BadInputValue(
            f"there is no chunk number {parts[1]}: the job has {record.chunks} chunks"
        )


def _check_attempts(record: jobs.JobRecord) -> None:
    if record.attempts >= MAX_ATTEMPTS:
        raise PoisonedChunk(
            f"it was begun {record.attempts} times, and each time its worker died or hung"
        )
    if record.redeliveries >= MAX_RETURNS:
        raise PoisonedChunk(f"it was redelivered {record.redeliveries} times without an answer")


def _count_attempt(task: EncodeTask, task_id: str) -> None:
    """Count another attempt of a chunk, just before it is computed."""
    parts = keys.split_task_id(task_id)
    assert parts is not None  # otherwise the chunk was dropped
    try:
        jobs.count_attempt(_redis(task), *parts)
    except RedisError as error:
        log.warning("chunk %s: the attempt could not be counted: %s", task_id, type(error).__name__)


def _forget_attempts(task: EncodeTask, task_id: str) -> None:
    """Forget the attempts at a chunk that was computed without harm, and is returned."""
    parts = keys.split_task_id(task_id)
    assert parts is not None  # otherwise the chunk was dropped
    with suppress(RedisError):  # then the chunk is computed alone
        jobs.forget_attempts(_redis(task), *parts)


def _pin_model(task: EncodeTask, task_id: str, fingerprint: str) -> str:
    """Pin the chunk's job to this worker's model, and return the model that it is pinned to."""
    parts = keys.split_task_id(task_id)
    assert parts is not None  # otherwise there was no record
    try:
        return jobs.pin(_redis(task), parts[0], queue_of(task.request), fingerprint)
    except RedisError:
        return fingerprint  # the rows name their model, and the client does not mix two


def _redis(task: EncodeTask) -> Redis:
    backend: Any = task.backend
    client: Redis = backend.client
    return client


def _check_model(task: EncodeTask, encoder: "Encoder", pinned: str) -> None:
    """Check that the model that must answer a job is this worker's.

    Raises:
        Reject: another worker of the queue has that model.
        ModelMismatch: no worker has it.
    """
    if pinned != encoder.fingerprint:
        return_to_other(
            _redis(task),
            task.request,
            lambda worker: worker.fingerprint == pinned,
            f"which has model {pinned[:12]}",
        )
        raise ModelMismatch(
            f"the request was begun by a worker with model {pinned[:12]}, and this worker has "
            f"model {encoder.fingerprint[:12]} ({encoder.name}): send it again"
        )


celery_logs.quiet_celery()
steps.register(app)
