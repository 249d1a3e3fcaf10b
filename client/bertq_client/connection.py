"""What a client is beside its calls: a connection that opens, forks, tells of itself and closes."""

import asyncio
import os
import weakref
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from redis import Redis, RedisError

import bertq
from bertq.redis import redis_url
from bertq.redis.connection import explain
from bertq.state import counters, status, worker_info
from bertq_client import threads
from bertq_client.session import Session

_T = TypeVar("_T")


class ClientBase:
    """The base of ``BertClient``: whoever holds it holds a session, of its own in each process.

    Args:
        url: of Redis, checked.
        make: makes a session; called again in a forked child.
        identity, timeout, output_fmt: as the user gave them.
    """

    def __init__(
        self,
        url: str,
        make: Callable[[], Session],
        *,
        identity: str | None,
        timeout: float | None,
        output_fmt: str,
    ) -> None:
        self._url = url
        self._make = make
        self._identity = identity
        self._timeout = timeout
        self._output_fmt = output_fmt
        self._open()
        _clients.add(self)

    @property
    def identity(self) -> str:
        """The client's name; the counters and the names of its keys begin with it."""
        return self._identity or self._session.client_id

    @property
    def status(self) -> dict[str, Any]:
        """The state of this client, by the names of bert-as-service; asks nobody."""
        where, pending = urlsplit(self._url), self._session.pending
        return {
            "identity": self.identity,
            "num_request": self._session.submitted,
            "num_pending_request": len(pending),
            "pending_request": pending,
            "output_fmt": self._output_fmt,
            "server_ip": where.hostname,
            "port": where.port or redis_url.PORT,
            "client_version": bertq.__version__,
            "timeout": self._timeout,
        }

    @property
    def server_config(self) -> dict[str, dict[str, Any]]:
        """The workers by node name: the fields of ``bertq.state.worker_info.WorkerStatserInfo``.

        Raises:
            RedisUnavailable: Redis cannot be asked.
            ClientClosed: the client is closed.
        """
        return {advert.node: asdict(advert) for advert in self._ask(worker_info.read)}

    @property
    def server_status(self) -> dict[str, Any]:
        """The state of the service: workers, queues, chunks on their way, counters.

        The names of bert-as-service 1.10 are ``num_worker``, ``device_map``,
        ``server_current_time`` and, in ``statistic``, the counters over the requests of all
        clients (``bertq.state.counters.read``); ``workers``, ``queues`` and ``unacked`` are the
        fields of ``bertq.state.status.Status``.

        Raises:
            RedisUnavailable: Redis cannot be asked.
            ClientClosed: the client is closed.
        """
        return self._ask(status.read).document()

    def _ask(self, question: Callable[[Redis], _T]) -> _T:
        redis = self._session.redis
        self._session.check_open()
        try:
            counters.count_look(redis)
            return question(redis)
        except RedisError as error:
            raise explain(error, self._url).error from None

    def _open(self) -> None:
        self._session = self._make()
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


def _renew_clients() -> None:
    for client in list(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_clients)
