"""The base class of the client: it opens, forks, describes and closes the connection."""

import asyncio
import atexit
import os
import weakref
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self, TypeVar

from redis import Redis, RedisError

import bertq
from bertq.redis import redis_url
from bertq.redis.connection import explain
from bertq.state import counters, status, worker_info
from bertq_client import progress_bar, threads
from bertq_client.request import Request
from bertq_client.session import Session
from bertq_client.worker_directory import WorkerDirectory

_T = TypeVar("_T")


class ClientBase:
    """Base class of ``BertClient``, with a separate session in each process.

    Args:
        url: checked address of Redis.
        create_session: creates a session; called again in a forked child.
        identity, timeout, output_fmt: as the user gave them.
    """

    def __init__(
        self,
        url: str,
        create_session: Callable[[], Session],
        *,
        identity: str | None,
        timeout: float | None,
        output_fmt: str,
    ) -> None:
        self._url = url
        self._create_session = create_session
        self._identity = identity
        self._timeout = timeout
        self._output_fmt = output_fmt
        self._open()
        _clients.add(self)

    @property
    def identity(self) -> str:
        """The client's name. The counters use it, and the names of its keys begin with it."""
        return self._identity or self._session.context.client_id

    @property
    def status(self) -> dict[str, Any]:
        """The state of this client, under bert-as-service's names; does not ask Redis."""
        host, port = redis_url.first_host(self._url)
        pending = self._session.pending
        return {
            "identity": self.identity,
            "num_request": self._session.submitted,
            "num_pending_request": len(pending),
            "pending_request": pending,
            "output_fmt": self._output_fmt,
            "server_ip": host,
            "port": port,
            "client_version": bertq.__version__,
            "timeout": self._timeout,
        }

    @property
    def server_config(self) -> dict[str, dict[str, Any]]:
        """The workers by node name, with the fields of ``bertq.state.worker_info.WorkerInfo``.

        Raises:
            RedisUnavailable: Redis cannot be reached.
            ClientClosed: the client is closed.
        """
        return {worker.node: asdict(worker) for worker in self._query(worker_info.read)}

    @property
    def server_status(self) -> dict[str, Any]:
        """The state of the service: workers, queues, chunks in flight, counters.

        Some names are those of bert-as-service 1.10: ``num_worker``, ``device_map``,
        ``server_current_time`` and ``statistic``, which has counters of the requests of all clients
        (``bertq.state.counters.read``). ``workers``, ``queues`` and ``unacked`` are the fields of
        ``bertq.state.status.Status``.

        Raises:
            RedisUnavailable: Redis cannot be reached.
            ClientClosed: the client is closed.
        """
        return self._query(status.read).document()

    @property
    def worker_directory(self) -> WorkerDirectory:
        """The workers as the client knows them; for programs that list workers often."""
        return self._session.context.directory

    def _submit(self, request: Request, *, is_awaited: bool = False) -> None:
        """Send a request.

        Args:
            request: the request.
            is_awaited: whether the calling thread waits for the answer next.

        Raises:
            ClientClosed: the client is closed.
        """
        self._session.submit(request, is_awaited=is_awaited)

    def _result_of(self, request: Request, *, progress: bool = False) -> Any:
        """Send a request, and wait for its rows; an exception cancels it.

        Raises:
            Exception: the errors of ``encode``.
        """
        try:
            self._submit(request, is_awaited=True)
            return progress_bar.watch(request.future) if progress else request.future.result()
        except BaseException:  # nobody has the future, so nobody else could cancel it
            request.future.cancel()
            raise

    def _query(self, read: Callable[[Redis], _T]) -> _T:
        """Read the state of the service; count the query."""
        redis = self._session.context.redis
        self._session.context.check_open()
        try:
            self._session.context.counter.send(redis)
            counters.count_status_query(redis)
            return read(redis)
        except RedisError as error:
            raise explain(error, self._url).error from None

    def _open(self) -> None:
        self._session = self._create_session()
        # Python ignores Ctrl-C while it collects the client, so this does not wait for Redis.
        self._closer = weakref.finalize(self, self._session.close, wait=False)
        self._closer.atexit = False  # see ``_close_clients``

    def _after_fork(self) -> None:
        # Threads and requests stay in the parent: the child starts with a new session.
        closed = self._closer.detach() is None
        self._session.abandon()
        self._open()
        if closed:
            # Another thread may have been closing it, and holds the old session's lock forever.
            self.close()

    def close(self) -> None:
        """Close the client. Unfinished requests fail with ``ClientClosed``.

        Closing takes a few milliseconds, or about two seconds when Redis does not answer. Further
        calls do nothing.
        """
        self._close(wait=True)

    def _close(self, *, wait: bool) -> None:
        if self._closer.detach() is not None:
            self._session.close(wait=wait)

    async def aclose(self) -> None:
        """Close the client like ``close``, without blocking the event loop."""
        await asyncio.wrap_future(threads.run(self.close, "closer"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redis_url.redact(self._url)}>"


_clients: "weakref.WeakSet[ClientBase]" = weakref.WeakSet()


@atexit.register
def _close_clients() -> None:
    # All wait for Redis at the same time: see ``threads.join_at_exit``.
    for client in list(_clients):
        client._close(wait=False)


def _renew_clients() -> None:
    for client in list(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_clients)
