"""The class that users create: ``BertClient``."""

import json
import os
import re
import threading
from numbers import Real
from typing import Any, Literal, TypedDict, Unpack, overload

from numpy.typing import NDArray

from bertq import tracing
from bertq.errors import SettingsError
from bertq.protocol import queues
from bertq.protocol.encoding import Encoding
from bertq.redis import redis_url
from bertq.redis.redis_url import HOST, PORT
from bertq_client import inputs
from bertq_client.context import ClientTimings
from bertq_client.durable.calls import DurableCalls
from bertq_client.encode.calls import Vectors
from bertq_client.encode.token_calls import TokenCalls
from bertq_client.outbox.window import Limits
from bertq_client.request import Request
from bertq_client.search.calls import SearchCalls
from bertq_client.session import Session
from bertq_client.streaming.calls import StreamCalls
from bertq_client.vector_cache import CacheInfo, VectorCache

_IDENTITY = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


OutputFormat = Literal["ndarray", "list"]


class _Settings(TypedDict, total=False):
    """The arguments of a client that do not change the types of its results."""

    redis_url: str | None
    show_server_config: bool
    identity: str | None
    check_version: bool
    check_length: bool
    timeout: float | None
    queue: str | None
    model: str | None
    on_full: Literal["wait", "raise"]
    max_pending_chunks: int | None
    cache: int
    _timings: ClientTimings | None


class ClientSettings(_Settings):
    """The arguments from which a copy of a client is created."""

    output_fmt: OutputFormat


class BertClient(TokenCalls[Vectors], SearchCalls, StreamCalls, DurableCalls):
    """A client that encodes sentences into vectors, using workers that take chunks from a queue.

    Threads and coroutines may share one client. It connects at the first request and reconnects
    automatically when the connection is lost. After a fork, the child's copy is an independent
    client; futures from before the fork belong to the parent. A pickled client connects to the same
    Redis where it is unpickled; the pickle contains the password of Redis, if the address does.
    ``with`` and ``async with`` close the client.

    Args:
        ip: host of the Redis server.
        port: port of the Redis server.
        redis_url: full address, ``redis://[[user]:password@]host[:port][/database]``, or
            ``rediss://`` for TLS, or ``sentinel://[[user]:password@]host[:port],.../SERVICE`` for
            the primary that Sentinels name. The default is the variable ``BERTQ_REDIS_URL``,
            unless ``ip`` or ``port`` is given.
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
        cache: rows of small requests (up to 16 sentences) to keep in memory, the ones used last. A
            request whose rows are all there is answered without a message. 0 keeps none.

    Raises:
        SettingsError: an argument is invalid.
    """

    @overload
    def __init__(
        self: "BertClient[NDArray[Any]]",
        ip: str = ...,
        port: int = ...,
        *,
        output_fmt: Literal["ndarray"] = ...,
        **settings: Unpack[_Settings],
    ) -> None: ...

    @overload
    def __init__(
        self: "BertClient[list[Any]]",
        ip: str = ...,
        port: int = ...,
        *,
        output_fmt: Literal["list"],
        **settings: Unpack[_Settings],
    ) -> None: ...

    @overload
    def __init__(
        self: "BertClient[Any]",
        ip: str = ...,
        port: int = ...,
        *,
        output_fmt: OutputFormat,
        **settings: Unpack[_Settings],
    ) -> None: ...

    def __init__(
        self,
        ip: str = HOST,
        port: int = PORT,
        *,
        redis_url: str | None = None,
        output_fmt: OutputFormat = "ndarray",
        show_server_config: bool = False,
        identity: str | None = None,
        check_version: bool = True,
        check_length: bool = True,
        timeout: float | None = None,
        queue: str | None = None,
        model: str | None = None,
        on_full: Literal["wait", "raise"] = "wait",
        max_pending_chunks: int | None = None,
        cache: int = 0,
        _timings: ClientTimings | None = None,  # for tests
    ) -> None:
        if output_fmt not in ("ndarray", "list"):
            raise SettingsError(f"output_fmt is {output_fmt!r}: it must be 'ndarray' or 'list'")
        if timeout is not None:
            is_number = isinstance(timeout, Real) and not isinstance(timeout, bool)
            if not (is_number and 0 < timeout <= threading.TIMEOUT_MAX):
                raise SettingsError("timeout must be a number of seconds above zero, or None")
            timeout = float(timeout)
        if identity is not None and not (
            isinstance(identity, str) and _IDENTITY.fullmatch(identity)
        ):
            raise SettingsError("identity must be of 1 to 64 letters, digits and any of _ . @ -")
        url = _address(ip, port, redis_url)
        self._settings: ClientSettings = {
            "redis_url": url, "output_fmt": output_fmt, "identity": identity,
            "check_version": check_version, "check_length": check_length, "timeout": timeout,
            "queue": queue, "model": model, "on_full": on_full,
            "max_pending_chunks": max_pending_chunks, "cache": cache, "_timings": _timings,
        }  # fmt: skip
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

    def _create_request(self, texts: Any, encoding: Encoding, *, as_list: bool) -> Request:
        frozen = inputs.prepare(texts, is_tokenized=encoding.is_tokenized)
        request = self._session.create_request(
            frozen,
            self._queue or self._queues.for_size(len(frozen)),
            encoding,
            self._timeout,
            as_list=as_list,
            check_length=self._check_length,
        )
        request.future.keep_alive(self)
        request.traceparent = tracing.start_request(request.future, request.queue, len(frozen))
        return request

    def _submit(self, request: Request, *, is_awaited: bool = False) -> None:
        if self._settings["cache"]:
            self._session.context.check_open()
            # Known for two seconds: then a request is sent again, and reads the worker info anew.
            if self._cache.answer(request, self.worker_directory.fingerprint(request.queue)):
                return
        super()._submit(request, is_awaited=is_awaited)

    @property
    def cache_info(self) -> CacheInfo:
        """Hits, misses and size of the cache of this process."""
        return self._cache.info

    def _open(self) -> None:
        # A new one after a fork: another thread of the parent may have held its lock.
        self._cache = VectorCache(self._settings["cache"])
        super()._open()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments, so that the copy connects where it is unpickled."""
        return _restore, (type(self), self._settings)


def _restore(kind: "type[BertClient[Any]]", settings: ClientSettings) -> "BertClient[Any]":
    """Create a client from the arguments of another one; subclasses may have other arguments."""
    client = kind.__new__(kind)
    BertClient.__init__(client, **settings)
    return client


def _address(ip: str, port: int, url: str | None) -> str:
    if url is not None:
        return redis_url.check(url)
    if (ip, port) != (HOST, PORT):
        return redis_url.from_address(ip, port)
    return redis_url.from_environ(os.environ)
