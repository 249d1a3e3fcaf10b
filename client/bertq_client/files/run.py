"""A run of ``encode_file``: it reads, encodes and writes, and saves its rows when it is stopped."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bertq.errors import (
    BadInput,
    NoWorker,
    OutputError,
    RedisUnavailable,
    RemoteError,
    SentenceTooLong,
)
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq.state.worker_info import WorkerInfo
from bertq_client import futures, progress_bar
from bertq_client.files import line_errors, resume
from bertq_client.files.checkpoint import RunProgress
from bertq_client.files.formats import check_sparse
from bertq_client.files.line import Sentence
from bertq_client.files.manifest import Manifest
from bertq_client.files.run_options import RunOptions
from bertq_client.files.source import Lines
from bertq_client.futures import EncodeFuture
from bertq_client.streaming import stream
from bertq_client.streaming.stream import Batch, Flight

#: Seconds between two commits: a killed run must encode the rows of this time again.
_COMMIT = 1.0

#: Bytes of a request's rows, if the user has not set ``batch_size``.
_BATCH_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class EncodedFile:
    """The result of ``BertClient.encode_file``.

    Attributes:
        path: the file of vectors.
        rows: number of rows in it.
        kept: rows of earlier runs.
        encoded: rows of this run, those of blank lines included.
        cut: truncated sentences, of all runs.
    """

    path: Path
    rows: int
    kept: int
    encoded: int
    cut: int = 0


class Run:
    """One call of ``encode_file``.

    Args:
        order: options of the run.
        submit: sends a request for rows as arrays.
        workers: reads the worker info of the workers that take the requests.
        check_length: whether to warn about truncated sentences.

    Raises:
        OutputError: the output cannot be written under its name.
    """

    def __init__(
        self,
        order: RunOptions,
        submit: Callable[[list[Any]], EncodeFuture],
        workers: Callable[[], list[WorkerInfo]],
        *,
        check_length: bool,
    ) -> None:
        self._order = order
        self._encode = submit
        self._workers = workers
        self._check_length = check_length
        self._source = order.source()
        self._output = order.destination()
        # The open requests: their futures, and the line numbers of their sentences.
        self._futures: deque[EncodeFuture] = deque()
        self._under_way: deque[int] = deque()
        self._line = 0
        self._fault: BadInput | None = None

    def go(self) -> EncodedFile:
        """Encode the file and return the result.

        Raises:
            BertqError: encoding failed. The rows so far are kept; a note tells their number.
        """
        order = self._order
        with self._output.held(resume=order.resume, overwrite=order.overwrite):
            self._survey()
            workers = self._look()
            record = RunProgress(order, self._output, self._source.identity)
            with closing(self._source.read()) as lines:
                kept = self._resume(record, lines, workers)
                try:
                    if kept is None or not kept.complete:
                        self._run(record, lines, workers)
                    self._finish(record, lines)
                except BaseException as error:
                    record.keep(error.add_note)
                    raise
        reached, before = record.position, 0 if kept is None else kept.position.rows
        if reached.cut and self._check_length:
            futures.warn_about_truncation(
                f"cut, {reached.cut} sentences of {self._source.name}: they have more tokens "
                "than are read (max_seq_len of the workers; BertClient(check_length=False) says "
                "nothing)"
            )
        return EncodedFile(order.output, reached.rows, before, reached.rows - before, reached.cut)

    # -- before the first request

    def _survey(self) -> None:
        with progress_bar.open_reading(self._source.size, shown=self._order.progress) as shown:
            self._source.survey(lambda read: shown.update(read - shown.n))

    def _look(self) -> list[WorkerInfo]:
        # Without Redis there is nothing to compare; requests wait for it until their timeout.
        workers: list[WorkerInfo] = []
        with suppress(RedisUnavailable):
            workers = self._workers()
        if workers and all(worker.task == "sparse" for worker in workers):
            check_sparse(self._order.output)
        return workers

    def _resume(
        self, record: RunProgress, lines: Lines, workers: list[WorkerInfo]
    ) -> Manifest | None:
        """Continue after an earlier run, if there is one; return its manifest."""
        kept = self._output.kept
        if kept is not None:
            resume.check(kept, self._order, self._source, workers)
            trace, self._line = resume.walk(kept.position, self._order, self._source, lines)
            record.adopt(kept, trace)
        return kept

    # -- encoding

    def _run(self, record: RunProgress, lines: Lines, workers: list[WorkerInfo]) -> None:
        record.open()
        size = self._batch_size(workers)
        flight = Flight(self._submit, size, True, stream.MAX_REQUESTS)
        initial, progress = record.position.rows, self._order.progress
        with (
            progress_bar.open_bar(self._total(), initial=initial, shown=progress) as shown,
            closing(flight.run(self._sentences(lines))) as batches,
        ):
            committed = time.monotonic()
            for batch in self._located(batches):
                self._take(record, batch)
                shown.update(record.position.rows - shown.n)
                if time.monotonic() - committed >= _COMMIT:
                    record.commit()
                    committed = time.monotonic()
            if self._fault is not None:
                raise self._fault
            if not record.begun:
                raise self._source.empty()
            record.fill(self._line)
            shown.update(record.position.rows - shown.n)

    def _batch_size(self, workers: list[WorkerInfo]) -> int:
        if self._order.batch_size is not None:
            return self._order.batch_size
        row = max((worker.row_bytes for worker in workers), default=1)
        return max(1, min(stream.BATCH_SIZE, _BATCH_BYTES // max(1, row)))

    def _total(self) -> int | None:
        identity = self._source.identity
        if identity is None:
            return None
        return identity.sentences if self._order.blank == "skip" else identity.lines

    def _submit(self, texts: list[Any]) -> EncodeFuture:
        future = self._encode(texts)
        future.suppress_warning()  # the run warns once, at its end
        self._futures.append(future)
        return future

    def _sentences(self, lines: Lines) -> Iterator[Sentence]:
        try:
            for number, sentence in lines:
                self._line = number
                if sentence is not None:
                    self._under_way.append(number)
                    yield sentence
        except BadInput as error:
            # Sentences before the error are still encoded and written.
            self._fault = error

    def _located(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass batches on; if one fails, the error names lines of the input."""
        try:
            yield from batches
        except (RemoteError, SentenceTooLong) as error:
            raise line_errors.located(error, list(self._under_way), self._source.name) from None

    def _take(self, record: RunProgress, batch: Batch) -> None:
        """Write the rows of a batch."""
        vectors: AnyRows = batch.vectors
        if not record.begun:
            shape = self._row_shape(batch.fingerprint, vectors.shape[1:])
            record.begin(batch.fingerprint, shape, is_sparse=isinstance(vectors, SparseRows))
        lines = islice(self._under_way, len(batch.texts))
        sentences = list(zip(lines, batch.texts, strict=True))
        record.add(batch.fingerprint, vectors, sentences, self._futures[0].cut)
        self._futures.popleft()
        for _ in sentences:
            self._under_way.popleft()

    def _row_shape(self, fingerprint: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a row; for token vectors, with the model's maximum length."""
        if len(shape) == 1:
            return shape
        for worker in self._workers():
            if worker.fingerprint == fingerprint:
                return (worker.max_seq_len, *shape[1:])
        raise NoWorker("no worker of the model is there to say how many tokens it reads")

    def _finish(self, record: RunProgress, lines: Lines) -> None:
        """Complete the file and rename it to its final name.

        Raises:
            OutputError: the file is complete, but the input has more lines.
        """
        if next(lines, None) is not None:
            raise OutputError(
                f"{self._order.output} is whole, and {self._source.name} has more lines: "
                "overwrite it"
            )
        record.finish()
