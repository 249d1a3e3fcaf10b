"""BertClient: what users hold in their hands."""

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
from bertq_client.durable.calls import DurableCalls
from bertq_client.futures import EncodeFuture
from bertq_client.inputs import Texts
from bertq_client.outbox.window import Limits
from bertq_client.session import Session
from bertq_client.streaming.calls import StreamCalls
from bertq_client.unfetched import UnfetchedRequests

_IDENTITY = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


class BertClient(StreamCalls, DurableCalls):
    """Turns sentences into vectors, by workers that take them from a queue.

    One client may be used from many threads at once, and from coroutines. It connects at the
    first request, and again by itself when the connection is lost. After a fork the child's copy
    is a client of its own; futures from before the fork belong to the parent. ``with`` and
    ``async with`` close it.

    Args:
        ip: host of the Redis server.
        port: its port.
        redis_url: the whole address, ``redis://[[user]:password@]host[:port][/database]``, or
            ``rediss://`` for TLS. Without it, and without another ``ip`` or ``port``, the variable
            ``BERTQ_REDIS_URL`` decides.
        output_fmt: ``"ndarray"``, or ``"list"`` for nested lists of float.
        show_server_config: print what the workers advertise.
        identity: a name of the client, for the counters and the names of keys; random without it.
        check_version: say once, in the log, that a worker has another version of bertq.
        check_length: warn (``TruncationWarning``) of sentences that were cut.
        timeout: seconds for a whole request; None waits for as long as it takes.
        queue: send to this queue, ``"gpu0"`` for one device, instead of the shared ones.
        model: send to the workers of this name (``--model-name``); without it to those without.
        on_full: ``"wait"`` while as many chunks wait on the queue as are allowed to, for as long as
            ``timeout`` allows; or ``"raise"`` QueueFull. A request that is begun always waits.
        max_pending_chunks: how many chunks may wait on the queue, those of other clients included.
            Without it ``BERTQ_MAX_PENDING_CHUNKS`` decides, or it is 1024.

    Raises:
        SettingsError: an argument cannot be used.
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
    ) -> None:
        if output_fmt not in ("ndarray", "list"):
            raise SettingsError(f"output_fmt is {output_fmt!r}: it must be 'ndarray' or 'list'")
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (number and 0 < timeout <= threading.TIMEOUT_MAX):
            raise SettingsError("timeout must be a number of seconds above zero, or None")
        if identity is not None and not (
            isinstance(identity, str) and _IDENTITY.fullmatch(identity)
        ):
            raise SettingsError("identity must be of 1 to 64 letters, digits and any of _ . @ -")
        url = _address(ip, port, redis_url)
        self._check_length = check_length
        self._queues = queues.of_model(model)
        self._queue = None if queue is None else self._queues.own(queue)
        limits = Limits.of(on_full, max_pending_chunks, os.environ)
        super().__init__(
            url,
            lambda: Session(url, limits, identity=identity, check_version=check_version),
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
            blocking: False does not wait: ``fetch`` or ``fetch_all`` have the vectors later.
            is_tokenized: ``texts`` is a list of lists of tokens instead, which are looked up in the
                model's vocabulary as they are.
            show_tokens: return the tokens too.
            progress: show a progress bar (tqdm), in a notebook too.
            options: ``normalize``, ``truncate``, ``precision``, ``prompt_name``, ``prompt``,
                ``input_type``, ``dimensions``, ``pairs``: see ``bertq.protocol.encoding.Options``.

        Returns:
            ndarray ``[len(texts), dim]`` of the type that ``precision`` names, row i for sentence
            i; of a cross-encoder ``[len(texts), labels]``; for the pooling strategy NONE
            ``[len(texts), max_seq_len, dim]``; of a sparse model ``SparseRows``. With
            ``output_fmt="list"`` nested lists, of a sparse model dicts of token id and weight.
            With ``show_tokens`` a pair: that, and for each sentence the list of its tokens, special
            tokens included. With ``blocking=False`` the request's number.

        Raises:
            BadInputType, BadInputValue: the sentences or an option cannot be used; nothing was
                sent.
            SentenceTooLong: sentences would have to be cut, and ``truncate="error"`` forbids it.
            NoWorker, Timeout: the client's timeout has passed, without or with workers.
            RemoteError: a chunk failed in the worker; its model has no such prompt, cannot read
                pairs, or gives no such rows.
            QueueFull: too many chunks wait, and the client was made with ``on_full="raise"``.
            RedisFull: Redis had no room for the request for 30 s.
            RedisUnavailable: it could not be reached for a minute, or refuses the client.
            LostResult, ModelMismatch, WireError: the answer is not to be trusted.
            ClientClosed: the client is, or was meanwhile, closed.
        """
        if progress and not blocking:
            raise BadInputValue("progress=True needs blocking=True: there is nobody who waits")
        future = self.encode_async(texts, is_tokenized, show_tokens, **options)
        if not blocking:
            self._mailbox.expect(future)
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

        The model's prompt for queries goes before each text, unless ``prompt`` or ``prompt_name``
        is given. Arguments, results and errors are those of ``encode``.
        """
        asked = _with_input_type("query", options)
        return self.encode(texts, blocking, is_tokenized, show_tokens, progress=progress, **asked)

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
        """Encode documents, which queries look for: ``encode`` with ``input_type="document"``.

        The model's prompt for documents goes before each text, unless ``prompt`` or ``prompt_name``
        is given. Arguments, results and errors are those of ``encode``.
        """
        asked = _with_input_type("document", options)
        return self.encode(texts, blocking, is_tokenized, show_tokens, progress=progress, **asked)

    def encode_async(
        self,
        texts: Texts,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        count_tokens: bool = False,
        **options: Unpack[Options],
    ) -> EncodeFuture:
        """Encode sentences and return a future at once.

        It takes well under a millisecond for thousands of sentences, and 20 to 30 ms for a million:
        the list is copied, so that it may be changed after the call.

        Args:
            texts: as for ``encode``. Of a list of more than 4096 the rest is checked behind the
                scenes, and an error then comes out of the future.
            is_tokenized, show_tokens, options: as for ``encode``.
            count_tokens: have the future's ``tokens_read`` tell how many tokens were read.

        Returns:
            A ``concurrent.futures.Future``, which can be awaited, of what ``encode`` returns;
            its ``exception()`` is what ``encode`` raises, its ``progress`` how far it is.

        Raises:
            BadInputType, BadInputValue: as ``encode``.
            ClientClosed: the client is closed.
        """
        encoding = Encoding.of(
            options, is_tokenized=is_tokenized, show_tokens=show_tokens, count_tokens=count_tokens
        )
        return self._request(texts, encoding, as_list=self._output_fmt == "list")

    def _request(self, texts: list[Any], encoding: Encoding, *, as_list: bool) -> EncodeFuture:
        inputs.check_list(texts, is_tokenized=encoding.is_tokenized)
        future = self._session.submit(
            inputs.frozen(texts),
            self._queue or self._queues.for_size(len(texts)),
            encoding,
            self._timeout,
            as_list=as_list,
            check_length=self._check_length,
        )
        future.keep(self)
        return future

    def fetch(self, delay: float = 0.0) -> Iterator[tuple[int, Any]]:
        """Return the vectors of requests that were sent with ``blocking=False``, as they come.

        Args:
            delay: seconds to wait before.

        Returns:
            An iterator of (number of the request, what ``encode`` would have returned), until none
            is left. The error of a request comes out of it; ``fetch`` again has the others.
        """
        time.sleep(delay)
        return self._mailbox.take()

    def fetch_all(self, sort: bool = True, concat: bool = False) -> Any:
        """Return the vectors of all requests that were sent with ``blocking=False``.

        Args:
            sort: in the order in which they were sent, or as they come.
            concat: as one array (or list), instead of a list of them.
        """
        return self._mailbox.take_all(sort=sort, concat=concat)

    def _open(self) -> None:
        super()._open()
        self._mailbox = UnfetchedRequests()


def _with_input_type(input_type: str, options: Options) -> Options:
    """Return the options of a call that says what the texts are, unless a prompt is given."""
    if options.get("input_type") is not None:
        raise BadInputValue("input_type is said by the call itself: use encode for another one")
    if options.get("prompt_name") is None and options.get("prompt") is None:
        return {**options, "input_type": input_type}
    return options


def _address(ip: str, port: int, url: str | None) -> str:
    if url is not None:
        return redis_url.check(url)
    if (ip, port) != (HOST, PORT):
        return redis_url.from_address(ip, port)
    return redis_url.from_environ(os.environ)
