"""BertClient: what users hold in their hands."""

import asyncio
import json
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal, TypeVar

from redis import Redis, RedisError

from bertq import adverts, queues, redis_url, statistics, status
from bertq.connection import explain
from bertq.errors import SettingsError
from bertq_client import inputs, threads
from bertq_client.futures import EncodeFuture
from bertq_client.session import Session
from bertq_client.window import Limits

_HOST, _PORT = "localhost", 6379
_T = TypeVar("_T")


class BertClient:
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
        timeout: seconds for a whole request; None waits for as long as it takes.
        queue: send to this queue, ``"gpu0"`` for one device, instead of the shared ones.
        on_full: ``"wait"`` while as many chunks wait on the queue as are allowed to, for as long as
            ``timeout`` allows; or ``"raise"`` QueueFull. A request that is begun always waits.
        max_pending_chunks: how many chunks may wait on the queue, those of other clients included.
            Without it ``BERTQ_MAX_PENDING_CHUNKS`` decides, or it is 1024.

    Raises:
        SettingsError: an argument cannot be used.
    """

    def __init__(
        self,
        ip: str = _HOST,
        port: int = _PORT,
        *,
        redis_url: str | None = None,
        output_fmt: Literal["ndarray", "list"] = "ndarray",
        show_server_config: bool = False,
        timeout: float | None = None,
        queue: str | None = None,
        on_full: Literal["wait", "raise"] = "wait",
        max_pending_chunks: int | None = None,
    ) -> None:
        if output_fmt not in ("ndarray", "list"):
            raise SettingsError(f"output_fmt is {output_fmt!r}: it must be 'ndarray' or 'list'")
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (number and 0 < timeout <= threading.TIMEOUT_MAX):
            raise SettingsError("timeout must be a number of seconds above zero, or None")
        self._url = _address(ip, port, redis_url)
        self._output_fmt = output_fmt
        self._timeout = timeout
        self._queue = None if queue is None else queues.check(queue)
        self._limits = Limits.of(on_full, max_pending_chunks, os.environ)
        self._open()
        _clients.add(self)
        if show_server_config:
            print(json.dumps(self.server_config, indent=2))  # noqa: T201 - it is asked for

    def encode(self, texts: list[str]) -> Any:
        """Encode sentences and wait for their vectors.

        Args:
            texts: a list of str, none of them blank.

        Returns:
            float32 ndarray ``[len(texts), dim]``, row i for sentence i; for the pooling strategy
            NONE ``[len(texts), max_seq_len, dim]``. With ``output_fmt="list"`` nested lists.

        Raises:
            BadInputType, BadInputValue: the sentences are not such a list; nothing was sent.
            NoWorker, Timeout: the client's timeout has passed, without or with workers.
            RemoteError: a chunk failed in the worker.
            QueueFull: too many chunks wait, and the client was made with ``on_full="raise"``.
            RedisFull: Redis had no room for the request for 30 s.
            RedisUnavailable: it could not be reached for a minute, or refuses the client.
            LostResult, ModelMismatch, WireError: the answer is not to be trusted.
            ClientClosed: the client is, or was meanwhile, closed.
        """
        return self.encode_async(texts).result()

    def encode_async(self, texts: list[str]) -> EncodeFuture:
        """Encode sentences and return a future at once.

        It takes well under a millisecond for thousands of sentences, and 10 to 20 ms for a million:
        the list is copied, so that it may be changed after the call.

        Args:
            texts: as for ``encode``. Of a list of more than 4096 the rest is checked behind the
                scenes, and an error then comes out of the future.

        Returns:
            A ``concurrent.futures.Future``, which can be awaited, of what ``encode`` returns;
            its ``exception()`` is what ``encode`` raises.

        Raises:
            BadInputType, BadInputValue: as ``encode``.
            ClientClosed: the client is closed.
        """
        inputs.check_list(texts)
        small = len(texts) <= queues.PRIORITY_BATCH_SIZE
        queue = self._queue or (queues.SMALL if small else queues.SHARED)
        future = self._session.submit(
            tuple(texts), queue, self._timeout, as_list=self._output_fmt == "list"
        )
        future.keep(self)
        return future

    @property
    def server_config(self) -> dict[str, dict[str, Any]]:
        """What the workers advertise: by node name, the fields of ``bertq.adverts.Advert``.

        Raises:
            RedisUnavailable: Redis cannot be asked.
            ClientClosed: the client is closed.
        """
        return {advert.node: asdict(advert) for advert in self._ask(adverts.read)}

    @property
    def server_status(self) -> dict[str, Any]:
        """The state of the service: workers, queues, chunks on their way, counters.

        The names of bert-as-service 1.10 are ``num_worker``, ``device_map``,
        ``server_current_time`` and, in ``statistic``, the counters over the requests of all
        clients (``bertq.statistics.read``); ``workers``, ``queues`` and ``unacked`` are the fields
        of ``bertq.status.Status``.

        Raises:
            RedisUnavailable: Redis cannot be asked.
            ClientClosed: the client is closed.
        """
        return self._ask(status.read).document()

    def _ask(self, question: Callable[[Redis], _T]) -> _T:
        redis = self._session.redis
        self._session.check_open()
        try:
            statistics.count_look(redis)
            return question(redis)
        except RedisError as error:
            raise explain(error, self._url).error from None

    def _open(self) -> None:
        self._session = Session(self._url, self._limits)
        # Also runs when the client is collected, and at the interpreter's exit.
        self._closer = weakref.finalize(self, self._session.close)

    def _after_fork(self) -> None:
        # The threads stayed in the parent, and so did the requests: start afresh.
        closed = self._closer.detach() is None
        self._session.abandon()
        self._open()
        if closed:
            # Perhaps it was just being closed, and the old session's lock is held for ever.
            self.close()

    def close(self) -> None:
        """End the client. Requests that are under way fail with ``ClientClosed``.

        It takes a few milliseconds; when Redis does not answer, about two seconds. The first call
        does it, further ones do nothing.
        """
        self._closer()

    async def aclose(self) -> None:
        """End the client as ``close`` does; the event loop goes on meanwhile."""
        await asyncio.wrap_future(threads.run(self.close, "closer"))

    def __enter__(self) -> "BertClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> "BertClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<BertClient {redis_url.redact(self._url)}>"


_clients: "weakref.WeakSet[BertClient]" = weakref.WeakSet()


def _renew_clients() -> None:
    for client in list(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_clients)


def _address(ip: str, port: int, url: str | None) -> str:
    if url is not None:
        return redis_url.check(url)
    if (ip, port) != (_HOST, _PORT):
        return redis_url.from_address(ip, port)
    return redis_url.from_environ(os.environ)
