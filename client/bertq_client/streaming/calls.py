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
from bertq_client.files.run import EncodedFile, Run
from bertq_client.files.run_options import RunOptions
from bertq_client.futures import EncodeFuture
from bertq_client.streaming import stream
from bertq_client.streaming.stream import Batch, Flight


class StreamCalls(ClientBase, ABC):
    """The part of ``BertClient`` for streams and files."""

    _queues: ModelQueues
    _queue: str | None
    _check_length: bool

    @abstractmethod
    def _request(self, texts: list[Any], encoding: Encoding, *, as_list: bool) -> EncodeFuture:
        """Send a request."""

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
        """Encode sentences from an iterable, of any number, in bounded memory.

        Each ``batch_size`` of them are a request, and what comes is given out while others are
        under way. ``iterable`` is read by the thread that takes the batches, as there is room.
        When the iterator is closed, what is under way is cancelled.

        Args:
            iterable: sentences, as ``encode`` takes them.
            batch_size: sentences of a request.
            ordered: give the batches out in their order, or as they come.
            max_requests: how many batches are under way or wait to be taken, at most.
            progress: show a progress bar (tqdm).
            is_tokenized, show_tokens, options: as for ``encode``.

        Returns:
            An iterator of ``Batch``: the number of its first sentence, its sentences, their
            vectors and, with ``show_tokens``, their tokens.

        Raises:
            BadInputType, BadInputValue, ClientClosed: as ``encode``, now or when the sentence comes
                up.
            SentenceTooLong, NoWorker, Timeout, RemoteError: as ``encode``, when the batch is due.
            QueueFull, RedisFull, RedisUnavailable: likewise.
            LostResult, ModelMismatch, WireError: likewise.
        """
        encoding = Encoding.of(options, is_tokenized=is_tokenized, show_tokens=show_tokens)
        flight = self._flight(batch_size, ordered, max_requests, encoding)
        return (
            progress_bar.count(flight.run(iterable), iterable) if progress else flight.run(iterable)
        )

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
        """Do as ``encode_stream`` in a coroutine: ``async for batch in ...``.

        Args:
            iterable: sentences; may be an asynchronous iterable.
            batch_size, ordered, max_requests: as for ``encode_stream``.
            is_tokenized, show_tokens, options: as for ``encode``.

        Raises:
            BertqError: as ``encode_stream``.
        """
        encoding = Encoding.of(options, is_tokenized=is_tokenized, show_tokens=show_tokens)
        flight = self._flight(batch_size, ordered, max_requests, encoding)
        return flight.run_async(iterable)

    def _flight(self, size: int, ordered: bool, most: int, encoding: Encoding) -> Flight:
        as_list = self._output_fmt == "list"

        def submit(texts: list[Any]) -> EncodeFuture:
            return self._request(texts, encoding, as_list=as_list)

        return Flight(submit, size, ordered, most, show_tokens=encoding.show_tokens)

    def encode_file(
        self,
        input: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        input_format: Literal["text", "jsonl"] | None = None,
        field: str = "text",
        blank: Literal["error", "zero", "skip"] = "error",
        resume: bool = False,
        overwrite: bool = False,
        is_tokenized: bool = False,
        batch_size: int | None = None,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> EncodedFile:
        """Encode a file of any size into a file of vectors, in bounded memory.

        The vectors go to ``<output>.part``, and get their name when they are all there;
        ``<output>.json`` tells how they were made. What was written when a run ended for whatever
        reason, ``resume`` goes on with. It waits: in a coroutine use ``asyncio.to_thread``.

        Args:
            input: text, a sentence a line, or ``.jsonl``, an object a line; compressed too
                (``.gz``); ``"-"`` for standard input.
            output: ``.npy``, or ``.jsonl`` for ``{"line": 1, "vector": [...]}`` a line; of a sparse
                model ``.jsonl``, whose vectors are objects of token id and weight.
            input_format: what the input is, whatever its name.
            field: of ``.jsonl``, which one is the sentence, or a pair: a list of two str.
            blank: what a blank line is: an error, a row of zeros, or no row.
            resume: keep what former runs have encoded; without any, begin.
            overwrite: replace what is there.
            is_tokenized: sentences are tokens: words between blanks, in ``.jsonl`` lists of str.
            batch_size: sentences of a request; without it 1024, fewer of large rows.
            progress: show a progress bar (tqdm).
            options: as for ``encode``.

        Returns:
            How many rows there are, and how many of them were kept.

        Raises:
            BadInputType, BadInputValue: the input, or an argument, cannot be used; an error of a
                file names the line, and comes before anything is encoded.
            OutputError: the output cannot be written; it is there, and neither ``resume`` nor
                ``overwrite`` is said; another process writes it; or input or options are not those
                of what ``resume`` found.
            ModelMismatch: the workers have another model than the rows that are there.
            SentenceTooLong, RemoteError, NoWorker, Timeout, RedisUnavailable: as ``encode``, with
                the lines of the input. What is written by then is kept: a note says how much.
        """
        encoding = Encoding.of(options, is_tokenized=is_tokenized)
        order = RunOptions(
            os.fspath(input), Path(output), input_format, field, blank, resume, overwrite,
            batch_size, progress, encoding,
        )  # fmt: skip

        def submit(texts: list[Any]) -> EncodeFuture:
            return self._request(texts, encoding, as_list=False)

        return Run(order, submit, self._workers, check_length=self._check_length).go()

    def _workers(self) -> list[WorkerInfo]:
        """Return the workers that take large requests of this client."""
        queue = self._queue or self._queues.shared
        return [advert for advert in self._ask(worker_info.read) if queue in advert.queues]
