"""``DurableJob``: a job that outlives its client; any process with its id can use it."""

import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertq.errors import (
    ModelMismatch,
    NoWorker,
    RemoteError,
    SentenceTooLong,
    Timeout,
    TruncationWarning,
)
from bertq.protocol import keys, time_to_live
from bertq.protocol.encoding import Encoding
from bertq.protocol.sparse import AnyRows
from bertq.protocol.wire import ChunkResult
from bertq.state import durable_jobs
from bertq.state.durable_jobs import JobInfo
from bertq_client import inputs
from bertq_client.durable.reader import Reader
from bertq_client.futures import Progress
from bertq_client.inbox import results
from bertq_client.inbox.assembly import Assembly
from bertq_client.outbox.deduplication import PlannedChunk
from bertq_client.request import to_lists


class Rows(NamedTuple):
    """Some rows of a job.

    Attributes:
        numbers: numbers of the sentences.
        vectors: ``[len(numbers), *row_shape]``, or ``SparseRows`` of a sparse model.
        tokens: the tokens of each sentence, with ``show_tokens``; else None.
    """

    numbers: list[int]
    vectors: AnyRows
    tokens: list[list[str]] | None


class Partial(NamedTuple):
    """The available rows of a job.

    Attributes:
        vectors: ``[rows, *row_shape]``, zeros for missing vectors; None before the first.
        there: ``[rows]``, whether the vector of each sentence is available.
    """

    vectors: AnyRows | None
    there: NDArray[np.bool_]


class DurableJob:
    """A durable job, from ``BertClient.submit`` or ``BertClient.job``.

    Any number of processes may use the same job and read it at the same time: reading removes
    nothing. Every method asks Redis, and raises ``RedisUnavailable`` if Redis cannot be reached.
    All but ``cancel``, ``renew`` and ``discard`` raise ``UnknownJob`` if the job no longer exists.

    Attributes:
        id: the job's id.
    """

    def __init__(
        self,
        job_id: str,
        create_reader: Callable[[str], Reader],
        *,
        as_list: bool,
        check_length: bool,
    ) -> None:
        self.id = job_id
        self._create_reader = create_reader
        self._as_list = as_list
        self._check_length = check_length

    def __repr__(self) -> str:
        return f"<DurableJob {self.id}>"

    @property
    def info(self) -> JobInfo:
        """All information about the job."""
        return self._reader().info()

    @property
    def status(self) -> str:
        """``"waiting"``, ``"running"``, ``"done"``, ``"failed"`` or ``"cancelled"``."""
        return self.info.status

    @property
    def progress(self) -> Progress:
        """The number of sentences that have vectors; rows arrive in chunks of up to 256."""
        info = self.info
        return Progress(info.done, info.rows)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for all vectors and return them, as ``BertClient.encode`` does.

        Args:
            timeout: seconds to wait here; the job continues afterwards.

        Raises:
            Timeout, NoWorker: vectors are still missing; or, in addition, no worker takes from the
                queue.
            RemoteError, SentenceTooLong: a chunk has failed; ``partial`` returns the others.
            concurrent.futures.CancelledError: the job was cancelled.
            LostResult, ModelMismatch, WireError: rows are lost or invalid.
        """
        reader, info = self._begin(timeout)
        assembly = Assembly(reader.plan(info))
        for number, answer in self._answers(reader, info, assembly.plan, timeout):
            assembly.add(number, answer)
        self._warn(assembly, info)
        rows, tokens = assembly.rows(), assembly.tokens
        value = to_lists(rows) if self._as_list else rows
        return (value, tokens or []) if _encoding(info).show_tokens else value

    def partial(self) -> Partial:
        """Return the available rows without waiting; rows of failed chunks are missing."""
        reader, info = self._begin()
        assembly = Assembly(reader.plan(info))
        there = np.zeros(info.rows, np.bool_)
        for number, payload in reader.results(info.chunks, lambda: 0.0):
            task_id = keys.task_id(self.id, number)
            try:
                assembly.add(number, results.decode(payload, task_id))
            except (RemoteError, SentenceTooLong, ModelMismatch):
                continue
            there[assembly.plan[number].places] = True
        return Partial(assembly.rows_so_far, there)

    def batches(self, timeout: float | None = None) -> Iterator[Rows]:
        """Return the rows chunk by chunk, as they arrive, in bounded memory.

        Args:
            timeout: seconds to wait here for the last chunk.

        Raises:
            Exception: as ``result``.
        """
        reader, info = self._begin(timeout)
        plan = reader.plan(info)
        for number, answer in self._answers(reader, info, plan, timeout):
            yield _rows(plan[number], answer)

    def cancel(self) -> bool:
        """Cancel the job: workers drop the chunks not yet begun; its texts and rows are removed.

        Returns:
            False if the job was finished or did not exist; ``discard`` removes a finished job.
        """
        reader = self._reader()
        found = reader.run(lambda: durable_jobs.read(reader.redis, [self.id]))
        return bool(found) and reader.run(lambda: durable_jobs.cancel(reader.redis, found[0]))

    def renew(self, ttl: float = time_to_live.DURABLE_JOB_SECONDS) -> bool:
        """Set the job's time to live to ``ttl`` seconds from now, longer or shorter than before.

        Returns:
            False if the job does not exist.
        """
        seconds = inputs.check_ttl(ttl)
        reader = self._reader()
        found = reader.run(lambda: durable_jobs.read(reader.redis, [self.id]))
        return bool(found) and reader.run(
            lambda: durable_jobs.renew(reader.redis, found[0], seconds)
        )

    def discard(self) -> bool:
        """Remove the job from Redis, in any state; return False if it did not exist."""
        reader = self._reader()
        found = reader.run(lambda: durable_jobs.read(reader.redis, [self.id]))
        for info in found:
            reader.run(lambda: durable_jobs.discard(reader.redis, info))  # noqa: B023 - called at once
        return bool(found)

    def _reader(self) -> Reader:
        return self._create_reader(self.id)

    def _begin(self, timeout: float | None = None) -> tuple[Reader, JobInfo]:
        reader = self._reader()
        reader.set_timeout(timeout)
        return reader, reader.info()

    def _answers(
        self, reader: Reader, info: JobInfo, plan: list[PlannedChunk], timeout: float | None
    ) -> Iterator[tuple[int, ChunkResult]]:
        """Return the rows of each chunk as they arrive; raises as ``result``."""
        answered = 0
        for number, payload in reader.results(info.chunks, lambda: reader.seconds_left):
            try:
                yield number, results.decode(payload, keys.task_id(self.id, number))
            except (RemoteError, SentenceTooLong) as error:
                raise results.error_of_request(error, plan[number]) from None
            answered += 1
        if answered < info.chunks:
            raise self._timeout_error(reader, timeout)

    def _timeout_error(self, reader: Reader, timeout: float | None) -> Timeout:
        info = reader.info()
        missing = f"{info.rows - info.done} of {info.rows} rows of job {self.id} are not there"
        if not reader.has_worker(info.queue):
            return NoWorker(
                f"{missing} after {timeout:g} s, and no worker takes from queue {info.queue}: "
                "start one (celery -A bertq worker); the job waits for it"
            )
        return Timeout(f"{missing} after {timeout:g} s: the job continues, ask again later")

    def _warn(self, assembly: Assembly, info: JobInfo) -> None:
        if assembly.cut and self._check_length:
            message = results.truncation_warning(len(assembly.cut), info.rows, assembly.max_seq_len)
            warnings.warn(message, TruncationWarning, stacklevel=3)


def _encoding(info: JobInfo) -> Encoding:
    return Encoding.from_wire(json.loads(info.options))


def _rows(chunk: PlannedChunk, answer: ChunkResult) -> Rows:
    """Return the rows that a chunk fills, with duplicate sentences repeated."""
    assembly = Assembly(
        [PlannedChunk(chunk.sentences, np.arange(len(chunk.places)), chunk.sources)]
    )
    assembly.add(0, answer)
    return Rows(chunk.places.tolist(), assembly.rows(), assembly.tokens)
