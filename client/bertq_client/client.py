"""The class that users create: ``BertClient``."""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal, Unpack

from bertq.errors import BadInputValue, SettingsError
from bertq.protocol import queues
from bertq.protocol.encoding import Encoding, Options
from bertq.redis import redis_url
from bertq.redis.redis_url import HOST, PORT
from bertq_client import inputs, progress_bar
from bertq_client.context import ClientTimings
from bertq_client.durable.calls import DurableCalls
from bertq_client.futures import EncodeFuture
from bertq_client.inputs import Texts
from bertq_client.outbox.window import Limits
from bertq_client.session import Session
from bertq_client.streaming.calls import StreamCalls
from bertq_client.unfetched import UnfetchedRequests

_IDENTITY = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


class BertClient(StreamCalls, DurableCalls):
    """A client that encodes sentences into vectors, using workers that take chunks from a queue.

    Threads and coroutines may share one client. It connects at the first request and reconnects
    automatically when the connection is lost. After a fork, the child's copy is an independent
    client; futures from before the fork belong to the parent. ``with`` and ``async with`` close
    the client.

    Args:
        ip: host of the Redis server.
        port: port of the Redis server.
        redis_url: full address, ``redis://[[user]:password@]host[:port][/database]``, or
            ``rediss://`` for TLS. The default is the variable ``BERTQ_REDIS_URL``, unless ``ip``
            or ``port`` is given.
        output_fmt: ``"ndarray"``, or ``"list"`` for nested lists of float.
        show_server_config: print the worker info of all workers.
        identity: name of the client, for the counters and the names of keys; random by default.
        check_version: log one warning if a worker has another version of bertq.
        check_length: warn (``TruncationWarning``) about truncated sentences.
        timeout: seconds for a whole request; None waits without a limit.
        queue: queue to send to, such as ``"gpu0"`` for one device, instead of the shared queues.
        model: name of the workers to send to (``--model-name``); by default, workers without one.
        on_full: ``"wait"`` until the queue has fewer waiting chunks than allowed, at most for
            ``timeout``; or ``"raise"`` QueueFull. A request that has started always waits.
        max_pending_chunks: how many chunks of all clients may wait on the queue. The default is
            ``BERTQ_MAX_PENDING_CHUNKS``, or 1024.

    Raises:
        SettingsError: an argument is invalid.
    """

    def __init__(
        self,
        ip: str = HOST,
        port: int = PORT,
        *,
        redis_url: str | None = None,
        output_fmt: Literal["ndarray", "list"] = "ndarray",
        show_server_config: bool = False,
        identity: str | None = None,
        check_version: bool = True,
        check_length: bool = True,
        timeout: float | None = None,
        queue: str | None = None,
        model: str | None = None,
        on_full: Literal["wait", "raise"] = "wait",
        max_pending_chunks: int | None = None,
        _timings: ClientTimings | None = None,  # for tests
    ) -> None:
        if output_fmt not in ("ndarray", "list"):
            raise SettingsError(f"output_fmt is {output_fmt!r}: it must be 'ndarray' or 'list'")
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (is_number and 0 < timeout <= threading.TIMEOUT_MAX):
            raise SettingsError("timeout must be a number of seconds above zero, or None")
        if identity is not None and not (
            isinstance(identity, str) and _IDENTITY.fullmatch(identity)
        ):
            raise SettingsError("identity must be of 1 to 64 letters, digits and any of _ . @ -")
        url = _address(ip, port, redis_url)
        self._check_length = check_length
        self._queues = queues.of_model(model)
        self._queue = None if queue is None else self._queues.full_name(queue)
        limits = Limits.from_arguments(on_full, max_pending_chunks, os.environ)
        super().__init__(
            url,
            lambda: Session(
                url,
                limits,
                _timings or ClientTimings(),
                identity=identity,
                check_version=check_version,
            ),
            identity=identity,
            timeout=timeout,
            output_fmt=output_fmt,
        )
        if show_server_config:
            print(json.dumps(self.server_config, indent=2))  # noqa: T201 - it is asked for

    def encode(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Encode sentences and wait for their vectors.

        Args:
            texts: a list of str, none of them blank; an element may also be a pair of sentences, a
                tuple (or list) of two str.
            blocking: if False, return at once; ``fetch`` or ``fetch_all`` return the vectors later.
            is_tokenized: ``texts`` is a list of lists of tokens, which are looked up unchanged in
                the model's vocabulary.
            show_tokens: return the tokens too.
            progress: show a progress bar (tqdm), also in notebooks.
            options: ``normalize``, ``truncate``, ``precision``, ``prompt_name``, ``prompt``,
                ``input_type``, ``dimensions``, ``pairs``: see ``bertq.protocol.encoding.Options``.

        Returns:
            An ndarray ``[len(texts), dim]`` with the dtype that ``precision`` names, row i for
            sentence i. For a cross-encoder: ``[len(texts), labels]``. For the pooling strategy
            NONE: ``[len(texts), max_seq_len, dim]``. For a sparse model: ``SparseRows``. With
            ``output_fmt="list"``: nested lists, or for a sparse model dicts of token id and weight.
            With ``show_tokens``: a pair of that and, for each sentence, the list of its tokens,
            special tokens included. With ``blocking=False``: the number of the request.

        Raises:
            BadInputType, BadInputValue: the sentences or an option are invalid; nothing was sent.
            SentenceTooLong: sentences are too long, and ``truncate="error"`` forbids truncating
                them.
            NoWorker, Timeout: the client's timeout has passed, without or with workers.
            RemoteError: a chunk failed in the worker, or its model lacks the prompt, cannot read
                pairs, or cannot return the requested rows.
            QueueFull: too many chunks are waiting, and the client was created with
                ``on_full="raise"``.
            RedisFull: Redis had no memory for the request for 30 s.
            RedisUnavailable: Redis was unreachable for a minute, or refuses the client.
            LostResult, ModelMismatch, WireError: the answer is lost or invalid.
            ClientClosed: the client was closed, before or during the call.
        """
        if progress and not blocking:
            raise BadInputValue(
                "progress=True needs blocking=True: without waiting there is no progress to show"
            )
        future = self.encode_async(texts, is_tokenized, show_tokens, **options)
        if not blocking:
            self._unfetched.expect(future)
            return future.number
        return progress_bar.watch(future) if progress else future.result()

    def encode_query(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Encode queries: ``encode`` with ``input_type="query"``.

        The model's prompt for queries is prepended to each text, unless ``prompt`` or
        ``prompt_name`` is given. Arguments, results and errors are those of ``encode``.
        """
        with_type = _with_input_type("query", options)
        return self.encode(
            texts, blocking, is_tokenized, show_tokens, progress=progress, **with_type
        )

    def encode_document(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Encode documents that queries search: ``encode`` with ``input_type="document"``.

        The model's prompt for documents is prepended to each text, unless ``prompt`` or
        ``prompt_name`` is given. Arguments, results and errors are those of ``encode``.
        """
        with_type = _with_input_type("document", options)
        return self.encode(
            texts, blocking, is_tokenized, show_tokens, progress=progress, **with_type
        )

    def encode_async(
        self,
        texts: Texts,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        count_tokens: bool = False,
        **options: Unpack[Options],
    ) -> EncodeFuture:
        """Encode sentences and return a future immediately.

        The call takes well under a millisecond for thousands of sentences, and 20 to 30 ms for a
        million: it copies the list, so the caller may change it afterwards.

        Args:
            texts: as for ``encode``. If the list has more than 4096 elements, a background thread
                checks the rest, and the future reports an error in it.
            is_tokenized, show_tokens, options: as for ``encode``.
            count_tokens: set ``tokens_read`` of the future to the number of tokens that were read.

        Returns:
            An awaitable ``concurrent.futures.Future`` for the result of ``encode``. Its
            ``exception()`` returns the errors that ``encode`` raises; its ``progress`` is the
            number of encoded sentences.

        Raises:
            BadInputType, BadInputValue: as ``encode``.
            ClientClosed: the client is closed.
        """
        encoding = Encoding.from_options(
            options, is_tokenized=is_tokenized, show_tokens=show_tokens, count_tokens=count_tokens
        )
        return self._request(texts, encoding, as_list=self._output_fmt == "list")

    def _request(self, texts: list[Any], encoding: Encoding, *, as_list: bool) -> EncodeFuture:
        inputs.check_list(texts, is_tokenized=encoding.is_tokenized)
        future = self._session.submit(
            inputs.frozen_copy(texts),
            self._queue or self._queues.for_size(len(texts)),
            encoding,
            self._timeout,
            as_list=as_list,
            check_length=self._check_length,
        )
        future.keep_alive(self)
        return future

    def fetch(self, delay: float = 0.0) -> Iterator[tuple[int, Any]]:
        """Return the vectors of requests that were sent with ``blocking=False``, as they arrive.

        Args:
            delay: seconds to wait first.

        Returns:
            An iterator of (number of the request, result of ``encode``), which ends with the last
            request. It raises the error of a failed request; another call returns the remaining
            ones.
        """
        time.sleep(delay)
        return self._unfetched.take()

    def fetch_all(self, sort: bool = True, concat: bool = False) -> Any:
        """Return the vectors of all requests that were sent with ``blocking=False``.

        Args:
            sort: return them in the order of sending, instead of the order of arrival.
            concat: return one array (or list), instead of a list of them.
        """
        return self._unfetched.take_all(sort=sort, concat=concat)

    def _open(self) -> None:
        super()._open()
        self._unfetched = UnfetchedRequests()


def _with_input_type(input_type: str, options: Options) -> Options:
    """Return the options with ``input_type`` set, unless a prompt is given."""
    if options.get("input_type") is not None:
        raise BadInputValue("this call sets input_type itself: use encode for another one")
    if options.get("prompt_name") is None and options.get("prompt") is None:
        return {**options, "input_type": input_type}
    return options


def _address(ip: str, port: int, url: str | None) -> str:
    if url is not None:
        return redis_url.check(url)
    if (ip, port) != (HOST, PORT):
        return redis_url.from_address(ip, port)
    return redis_url.from_environ(os.environ)
