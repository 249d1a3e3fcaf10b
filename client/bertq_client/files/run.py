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
from bertq_client.files.formats import check_sparse
from bertq_client.files.line import Sentence
from bertq_client.files.manifest import Manifest
from bertq_client.files.output_writer import OutputWriter
from bertq_client.files.run_options import RunOptions
from bertq_client.files.source import Lines
from bertq_client.futures import EncodeFuture
from bertq_client.request import Request
from bertq_client.streaming import stream
from bertq_client.streaming.stream import Batch, RequestStream

#: Most bytes of a request's rows, if the user has not set ``batch_size``.
_MAX_BATCH_BYTES = 64 * 1024 * 1024


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
        options: options of the run.
        create_request: creates a request for rows as arrays.
        submit: sends it.
        read_workers: reads the worker info of the workers that take the requests.
        check_length: whether to warn about truncated sentences.
        commit_interval_seconds: time between two commits.

    Raises:
        OutputError: the output cannot be written under its name.
    """

    def __init__(
        self,
        options: RunOptions,
        create_request: Callable[[list[Any]], Request],
        submit: Callable[[Request], object],
        read_workers: Callable[[], list[WorkerInfo]],
        *,
        check_length: bool,
        commit_interval_seconds: float,
    ) -> None:
        self._options = options
        self._create = create_request
        self._submit = submit
        self._read_workers = read_workers
        self._check_length = check_length
        self._commit_interval_seconds = commit_interval_seconds
        self._source = options.source()
        self._output = options.destination()
        # The open requests: their futures, and the line numbers of their sentences.
        self._futures: deque[EncodeFuture] = deque()
        self._open_lines: deque[int] = deque()
        self._last_line = 0
        self._input_error: BadInput | None = None

    def execute(self) -> EncodedFile:
        """Encode the file and return the result.

        Raises:
            BertqError: encoding failed. The rows so far are saved; a note has their number.
        """
        options = self._options
        with self._output.locked(resume=options.resume, overwrite=options.overwrite):
            self._check_source()
            workers = self._find_workers()
            writer = OutputWriter(options, self._output, self._source.identity)
            with closing(self._source.read()) as lines:
                earlier = self._resume(writer, lines, workers)
                try:
                    if earlier is None or not earlier.complete:
                        self._encode_lines(writer, lines, workers)
                    self._finish(writer, lines)
                except BaseException as error:
                    writer.commit_after_error(error.add_note)
                    raise
        reached, kept = writer.position, 0 if earlier is None else earlier.position.rows
        if reached.cut and self._check_length:
            futures.warn_about_truncation(
                f"cut, {reached.cut} sentences of {self._source.name}: they have more tokens "
                "than are read (max_seq_len of the workers; BertClient(check_length=False) hides "
                "this warning)"
            )
        return EncodedFile(options.output, reached.rows, kept, reached.rows - kept, reached.cut)

    # -- before the first request

    def _check_source(self) -> None:
        is_shown = self._options.progress
        with progress_bar.open_bytes_bar(self._source.size, is_shown=is_shown) as bar:
            self._source.check(bar.show)

    def _find_workers(self) -> list[WorkerInfo]:
        # Without Redis there is nothing to compare; requests wait for it until their timeout.
        workers: list[WorkerInfo] = []
        with suppress(RedisUnavailable):
            workers = self._read_workers()
        if workers and all(worker.task == "sparse" for worker in workers):
            check_sparse(self._options.output)
        return workers

    def _resume(
        self, writer: OutputWriter, lines: Lines, workers: list[WorkerInfo]
    ) -> Manifest | None:
        """Continue after an earlier run, if there is one; return its manifest."""
        earlier = self._output.manifest
        if earlier is not None:
            resume.check(earlier, self._options, self._source, workers)
            digest, self._last_line = resume.skip_saved_lines(
                earlier.position, self._options, self._source, lines
            )
            writer.resume(earlier, digest)
        return earlier

    # -- encoding

    def _encode_lines(self, writer: OutputWriter, lines: Lines, workers: list[WorkerInfo]) -> None:
        """Encode the remaining lines and write their rows."""
        writer.open()
        requests = RequestStream(
            self._create_request,
            self._submit,
            self._batch_size(workers),
            ordered=True,
            max_requests=stream.MAX_REQUESTS,
        )
        initial, is_shown = writer.position.rows, self._options.progress
        with (
            progress_bar.open_bar(self._total_rows(), initial=initial, is_shown=is_shown) as bar,
            closing(requests.batches(self._sentences(lines))) as batches,
        ):
            committed_at = time.monotonic()
            if is_shown:
                requests.report = lambda done: bar.show(max(initial + done, writer.position.rows))
            for batch in self._with_line_numbers(batches):
                self._write_batch(writer, batch)
                bar.show(writer.position.rows)
                if time.monotonic() - committed_at >= self._commit_interval_seconds:
                    writer.commit()
                    committed_at = time.monotonic()
            if self._input_error is not None:
                raise self._input_error
            if not writer.has_begun:
                raise self._source.empty()
            writer.write_blanks(self._last_line)
            bar.show(writer.position.rows)

    def _batch_size(self, workers: list[WorkerInfo]) -> int:
        if self._options.batch_size is not None:
            return self._options.batch_size
        row_bytes = max((worker.row_bytes for worker in workers), default=1)
        return max(1, min(stream.BATCH_SIZE, _MAX_BATCH_BYTES // max(1, row_bytes)))

    def _total_rows(self) -> int | None:
        identity = self._source.identity
        if identity is None:
            return None
        return identity.sentences if self._options.blank == "skip" else identity.lines

    def _create_request(self, texts: list[Any]) -> Request:
        request = self._create(texts)
        request.future.suppress_warning()  # the run warns once, at its end
        self._futures.append(request.future)
        return request

    def _sentences(self, lines: Lines) -> Iterator[Sentence]:
        try:
            for number, sentence in lines:
                self._last_line = number
                if sentence is not None:
                    self._open_lines.append(number)
                    yield sentence
        except BadInput as error:
            # Sentences before the error are still encoded and written.
            self._input_error = error

    def _with_line_numbers(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass batches on; if one fails, the error names lines of the input."""
        try:
            yield from batches
        except (RemoteError, SentenceTooLong) as error:
            lines = list(self._open_lines)
            raise line_errors.with_line_numbers(error, lines, self._source.name) from None

    def _write_batch(self, writer: OutputWriter, batch: Batch) -> None:
        """Write the rows of a batch."""
        vectors: AnyRows = batch.vectors
        if not writer.has_begun:
            shape = self._row_shape(batch.fingerprint, vectors.shape[1:])
            writer.begin(batch.fingerprint, shape, is_sparse=isinstance(vectors, SparseRows))
        lines = islice(self._open_lines, len(batch.texts))
        sentences = list(zip(lines, batch.texts, strict=True))
        writer.write(batch.fingerprint, vectors, sentences, self._futures[0].cut)
        self._futures.popleft()
        for _ in sentences:
            self._open_lines.popleft()

    def _row_shape(self, fingerprint: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a row; for token vectors, with the model's maximum length."""
        if len(shape) == 1:
            return shape
        for worker in self._read_workers():
            if worker.fingerprint == fingerprint:
                return (worker.max_seq_len, *shape[1:])
        raise NoWorker("no worker of the model is alive, so its max_seq_len is unknown")

    def _finish(self, writer: OutputWriter, lines: Lines) -> None:
        """Complete the file and rename it to its final name.

        Raises:
            OutputError: the file is complete, but the input has more lines.
        """
        if next(lines, None) is not None:
            raise OutputError(
                f"{self._options.output} is complete, and {self._source.name} has more lines: "
                "overwrite it"
            )
        writer.finish()
