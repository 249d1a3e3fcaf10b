"""Encodes sentences of an iterable of any length, a few requests at a time."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import Any, NamedTuple

from bertq.errors import BadInput, BadInputType
from bertq.integers import check_count
from bertq_client.futures import MAX_WAIT_SECONDS, EncodeFuture
from bertq_client.request import Request

#: Sentences of a request: four chunks, so that several workers share it.
BATCH_SIZE = 1024

#: Requests that are in progress, or answered and not yet taken.
MAX_REQUESTS = 8

#: Seconds between two reports of the progress.
_REPORT_INTERVAL_SECONDS = 0.1


class Batch(NamedTuple):
    """Some sentences of a stream, and their vectors.

    Attributes:
        start: number of the first sentence, from 0.
        texts: the sentences.
        vectors: ``[len(texts), dim]``, as ``BertClient.encode`` returns them.
        tokens: the tokens of each sentence, with ``show_tokens``; else None.
        fingerprint: fingerprint of the model that made the vectors.
    """

    start: int
    texts: list[Any]
    vectors: Any
    tokens: list[list[str]] | None
    fingerprint: str = ""


class RequestStream:
    """The requests of one stream.

    Args:
        create_request: creates a request for a list of sentences.
        submit: sends it.
        batch_size: sentences of a request.
        ordered: whether to return batches in their order.
        max_requests: most requests at the same time.
        show_tokens: whether the answers have tokens.

    Attributes:
        report: called while waiting, with the number of encoded sentences.

    Raises:
        BadInputType, BadInputValue: an argument is invalid.
    """

    def __init__(
        self,
        create_request: Callable[[list[Any]], Request],
        submit: Callable[[Request], object],
        batch_size: int,
        *,
        ordered: bool,
        max_requests: int,
        show_tokens: bool = False,
    ) -> None:
        self.report: Callable[[int], object] | None = None
        self._create_request = create_request
        self._submit = submit
        self._batch_size = check_count("batch_size", batch_size)
        self._ordered = ordered
        self._max_requests = check_count("max_requests", max_requests)
        self._show_tokens = show_tokens
        self._next_start = 0
        self._taken = 0  # sentences of the batches that were returned
        #: open requests, with the number of the first sentence and the sentences
        self._open: dict[EncodeFuture, tuple[int, list[Any]]] = {}

    def batches(self, source: Iterable[Any]) -> Generator[Batch, None, None]:
        """Return the batches of ``source``."""
        if isinstance(source, str) or not isinstance(source, Iterable):
            raise BadInputType(f"{type(source).__name__}: give an iterable of sentences")
        return self._batches(iter(source))

    def _batches(self, sentences: Iterator[Any]) -> Generator[Batch, None, None]:
        try:
            while True:
                while len(self._open) < self._max_requests:
                    if not (texts := list(islice(sentences, self._batch_size))):
                        break
                    self._send(texts)
                if not self._open:
                    return
                yield self._take_batch(self._wait_for_request())
        finally:
            self._cancel()

    def batches_async(
        self, source: Iterable[Any] | AsyncIterable[Any]
    ) -> AsyncGenerator[Batch, None]:
        """Return the batches of ``source``, in a coroutine."""
        if isinstance(source, str) or not isinstance(source, Iterable | AsyncIterable):
            raise BadInputType(f"{type(source).__name__}: give an iterable of sentences")
        return self._batches_async(_split(source, self._batch_size))

    async def _batches_async(self, lists: AsyncIterator[list[Any]]) -> AsyncGenerator[Batch, None]:
        waiters: dict[asyncio.Future[None], EncodeFuture] = {}
        try:
            while True:
                while len(self._open) < self._max_requests:
                    texts = await anext(lists, None)
                    if texts is None:
                        break
                    future = self._send(texts)
                    waiters[_waiter(future)] = future
                if not waiters:
                    return
                first = next(iter(waiters))
                if self._ordered:
                    await asyncio.wait([first])
                else:
                    done, _ = await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
                    first = next(waiter for waiter in waiters if waiter in done)
                yield self._take_batch(waiters.pop(first))
        finally:
            self._cancel()

    def _send(self, texts: list[Any]) -> EncodeFuture:
        try:
            request = self._create_request(texts)
        except BadInput as error:
            error.add_note(f"(texts is a batch, which begins with sentence {self._next_start})")
            raise
        # Before it is sent: an exception of a signal handler may come at any time.
        self._open[request.future] = (self._next_start, texts)
        self._next_start += len(texts)
        self._submit(request)
        return request.future

    def _wait_for_request(self) -> EncodeFuture:
        """Wait for the request of the next batch, and report the progress meanwhile."""
        due = [next(iter(self._open))] if self._ordered else list(self._open)
        seconds = MAX_WAIT_SECONDS if self.report is None else _REPORT_INTERVAL_SECONDS
        while not (done := wait(due, seconds, FIRST_COMPLETED).done):
            if self.report is not None:
                self.report(self._taken + sum(future.progress.done for future in self._open))
        return next(future for future in due if future in done)

    def _take_batch(self, future: EncodeFuture) -> Batch:
        """Return the batch of a request, waiting for it if necessary."""
        value = future.result()
        start, texts = self._open.pop(future)
        self._taken += len(texts)
        if self._show_tokens:
            vectors, tokens = value
            return Batch(start, texts, vectors, tokens, future.fingerprint)
        return Batch(start, texts, value, None, future.fingerprint)

    def _cancel(self) -> None:
        for future in self._open:
            future.cancel()
        self._open.clear()


def _waiter(future: EncodeFuture) -> "asyncio.Future[None]":
    """Return a future of the running loop that is done when ``future`` is, with any outcome."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def wake(_: Future[Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish)

    Future.add_done_callback(future, wake)
    return waiter


async def _split(source: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncIterator[list[Any]]:
    """Split an iterable into lists."""
    if isinstance(source, Iterable):
        sentences = iter(source)
        while texts := list(islice(sentences, size)):
            yield texts
        return
    texts = []
    async for text in source:
        texts.append(text)
        if len(texts) == size:
            yield texts
            texts = []
    if texts:
        yield texts
