"""The calls of a client for more sentences than fit into memory."""

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from pathlib import Path
from typing import Any, Literal, Unpack

from bertq.protocol.encoding import Encoding, Options
from bertq.protocol.queues import ModelQueues
from bertq.state import worker_info
from bertq.state.worker_info import WorkerInfo
from bertq_client import progress_bar
from bertq_client.connection import ClientBase
from bertq_client.files.line import DEFAULT_FIELD
from bertq_client.files.run import EncodedFile, Run
from bertq_client.files.run_options import RunOptions
from bertq_client.request import Request
from bertq_client.streaming import stream
from bertq_client.streaming.stream import Batch, RequestStream


class StreamCalls(ClientBase, ABC):
    """The part of ``BertClient`` for streams and files."""

    _queues: ModelQueues
    _queue: str | None
    _check_length: bool

    @abstractmethod
    def _create_request(self, texts: Any, encoding: Encoding, *, as_list: bool) -> Request:
        """Create a request, which is sent by ``_submit``."""

    def encode_stream(
        self,
        iterable: Iterable[Any],
        batch_size: int = stream.BATCH_SIZE,
        ordered: bool = True,
        *,
        max_requests: int = stream.MAX_REQUESTS,
        progress: bool = False,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        **options: Unpack[Options],
    ) -> Generator[Batch, None, None]:
        """Encode any number of sentences from an iterable, in bounded memory.

        Each ``batch_size`` sentences become one request, and results are returned while other
        requests are in progress. The thread that takes the batches also reads ``iterable``, as
        requests finish. Closing the iterator cancels the open requests.

        Args:
            iterable: sentences, as for ``encode``.
            batch_size: sentences of a request.
            ordered: return the batches in their order, instead of as they arrive.
            max_requests: most batches that are in progress or wait to be taken.
            progress: show a progress bar (tqdm).
            is_tokenized, show_tokens, options: as for ``encode``.

        Returns:
            An iterator of ``Batch``: the number of its first sentence, its sentences, their
            vectors and, with ``show_tokens``, their tokens.

        Raises:
            BadInputType, BadInputValue, ClientClosed: as ``encode``, now or when the sentence is
                read.
            SentenceTooLong, NoWorker, Timeout, RemoteError: as ``encode``, when the batch is due.
            QueueFull, RedisFull, RedisUnavailable: likewise.
            LostResult, ModelMismatch, WireError: likewise.
        """
        encoding = Encoding.from_options(
            options, is_tokenized=is_tokenized, show_tokens=show_tokens
        )
        requests = self._request_stream(batch_size, ordered, max_requests, encoding)
        batches = requests.batches(iterable)
        return progress_bar.watch_stream(requests, iterable) if progress else batches

    def encode_stream_async(
        self,
        iterable: Iterable[Any] | AsyncIterable[Any],
        batch_size: int = stream.BATCH_SIZE,
        ordered: bool = True,
        *,
        max_requests: int = stream.MAX_REQUESTS,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Batch, None]:
        """Encode like ``encode_stream``, in a coroutine: ``async for batch in ...``.

        Args:
            iterable: sentences; may be an asynchronous iterable.
            batch_size, ordered, max_requests: as for ``encode_stream``.
            is_tokenized, show_tokens, options: as for ``encode``.

        Raises:
            BertqError: as ``encode_stream``.
        """
        encoding = Encoding.from_options(
            options, is_tokenized=is_tokenized, show_tokens=show_tokens
        )
        requests = self._request_stream(batch_size, ordered, max_requests, encoding)
        return requests.batches_async(iterable)

    def _request_stream(
        self, batch_size: int, ordered: bool, max_requests: int, encoding: Encoding
    ) -> RequestStream:
        as_list = self._output_fmt == "list"

        def create_request(texts: list[Any]) -> Request:
            return self._create_request(texts, encoding, as_list=as_list)

        return RequestStream(
            create_request,
            self._submit,
            batch_size,
            ordered=ordered,
            max_requests=max_requests,
            show_tokens=encoding.show_tokens,
        )

    def encode_file(
        self,
        input: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        input_format: Literal["text", "jsonl"] | None = None,
        field: str = DEFAULT_FIELD,
        blank: Literal["error", "zero", "skip"] = "error",
        resume: bool = False,
        overwrite: bool = False,
        is_tokenized: bool = False,
        batch_size: int | None = None,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> EncodedFile:
        """Encode a file of any size into a file of vectors, in bounded memory.

        The vectors are written to ``<output>.part``, which is renamed to ``output`` when it is
        complete; ``<output>.json`` records how they were made. After an interrupted run, ``resume``
        continues with the rows already written. The call blocks: in a coroutine use
        ``asyncio.to_thread``.

        Args:
            input: a text file with one sentence per line, or a ``.jsonl`` file with one object per
                line, either of them perhaps compressed (``.gz``); ``"-"`` for standard input.
            output: ``.npy``, or ``.jsonl`` for lines ``{"line": 1, "vector": [...]}``. A sparse
                model needs ``.jsonl``; its vectors are objects of token id and weight.
            input_format: format of the input; by default its name decides.
            field: name of the field in ``.jsonl`` that has the sentence, or a pair: a list of two
                str.
            blank: treat a blank line as an error, write a row of zeros, or skip it.
            resume: keep the rows of earlier runs; start from the beginning if there are none.
            overwrite: replace existing files.
            is_tokenized: sentences are tokens: words separated by blanks, or lists of str in
                ``.jsonl``.
            batch_size: sentences of a request; by default 1024, or fewer if rows are large.
            progress: show a progress bar (tqdm).
            options: as for ``encode``.

        Returns:
            The number of rows, and how many of them come from earlier runs.

        Raises:
            BadInputType, BadInputValue: the input or an argument is invalid. An error in a file
                names the line, and is raised before anything is encoded.
            OutputError: the output cannot be written; it exists, and neither ``resume`` nor
                ``overwrite`` is given; another process writes it; or the input or options differ
                from those of the run to resume.
            ModelMismatch: the workers have another model than the one of the existing rows.
            SentenceTooLong, RemoteError, NoWorker, Timeout, RedisUnavailable: as ``encode``, with
                the lines of the input. The rows written so far are saved; a note has their number.
        """
        encoding = Encoding.from_options(options, is_tokenized=is_tokenized)
        run_options = RunOptions(
            os.fspath(input), Path(output), input_format, field, blank, resume, overwrite,
            batch_size, progress, encoding,
        )  # fmt: skip

        def create_request(texts: list[Any]) -> Request:
            return self._create_request(texts, encoding, as_list=False)

        return Run(
            run_options,
            create_request,
            self._submit,
            self._read_workers,
            check_length=self._check_length,
            commit_interval_seconds=self._session.context.timings.commit_interval_seconds,
        ).execute()

    def _read_workers(self) -> list[WorkerInfo]:
        """Return the workers that take large requests of this client."""
        queue = self._queue or self._queues.shared
        return [worker for worker in self._query(worker_info.read) if queue in worker.queues]
