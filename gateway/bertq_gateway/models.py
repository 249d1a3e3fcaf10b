"""The models that a gateway serves, under the names that callers use."""

import asyncio
from collections.abc import Collection, Mapping

from redis import RedisError

from bertq import BertClient
from bertq.errors import BertqError, NoWorker, SettingsError
from bertq.redis.connection import explain
from bertq.state.worker_info import WorkerInfo
from bertq_client.vector_cache import CacheInfo
from bertq_gateway.errors import Refused


class Models:
    """The clients of a gateway: one for each model that workers serve.

    A client is created at the first request for its model, and closed when no worker has the model
    and no request waits.

    The model without a name has the name of its directory.

    Args:
        redis_url: URL of the queues' Redis.
        timeout: seconds until a request times out; None for requests that wait, also for a place on
            a full queue.
        aliases: additional names of models.
        cache_rows: rows to keep in memory for each model.
    """

    def __init__(
        self, redis_url: str, timeout: float | None, aliases: Mapping[str, str], cache_rows: int = 0
    ) -> None:
        self._url = redis_url
        self._timeout = timeout
        self._aliases = aliases
        self._cache_rows = cache_rows
        self._closed_hits = self._closed_misses = 0  # of clients that were closed
        self._clients: dict[str | None, BertClient] = {}
        self._refresh: asyncio.Task[BertqError | None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._default_client = self._client(None)

    async def workers(self) -> list[WorkerInfo]:
        """Return the info of the live workers.

        Raises:
            RedisUnavailable: Redis cannot be reached.
        """
        directory = self._default_client.worker_directory
        if not directory.is_fresh:
            # Requests that arrive meanwhile wait for the same answer: a Redis that does not answer
            # delays all of them by one timeout, and not by one after the other.
            if self._refresh is None or self._refresh.done():
                self._refresh = asyncio.create_task(self._refresh_workers())
            if failure := await asyncio.shield(self._refresh):
                raise failure
        return directory.workers

    async def _refresh_workers(self) -> BertqError | None:
        """Read the worker info, and close unused clients; return the error if that fails."""
        directory = self._default_client.worker_directory
        try:
            await asyncio.to_thread(directory.refresh)
        except RedisError as error:
            return explain(error, self._url).error
        self._close_unused({worker.model_name for worker in directory.workers})
        return None

    async def names(self) -> dict[str, WorkerInfo]:
        """Return the names of the models, each with one worker that has the model."""
        # A configured name has precedence over the name of a directory.
        found = sorted(await self.workers(), key=lambda worker: worker.model_name is not None)
        return {worker.public_name: worker for worker in found}

    async def listed(self) -> dict[str, WorkerInfo]:
        """Return the names and the aliases of the models, each with one worker."""
        known = await self.names()
        aliases = {alias: known[model] for alias, model in self._aliases.items() if model in known}
        return known | aliases

    async def find(
        self, requested: str | None, task: str | None = None
    ) -> tuple[str, WorkerInfo, BertClient]:
        """Return the name of a model, a worker that has it, and the client for it.

        The caller must send its request before it awaits: an unused client may be closed.

        Args:
            requested: name or alias of the model, or None for the only one.
            task: what the only one is for; its task may be another if there is no such model.

        Raises:
            NoWorker: no worker of any model is alive.
            Refused: there is no such model.
        """
        known = await self.names()
        model = (
            self._aliases.get(requested, requested)
            if requested is not None
            else self._find_only(
                {name: worker for name, worker in known.items() if worker.task == task} or known
            )
        )
        worker = known.get(model)
        if worker is not None:
            return model, worker, self._client(worker.model_name)
        raise self.unknown(known)

    @staticmethod
    def unknown(known: Collection[str]) -> Exception:
        """Return the error of a request for a model that is not among the known ones."""
        if not known:
            return NoWorker("no worker is alive: start one, as with bertq serve")
        names = ", ".join(sorted(known))
        return Refused(404, f"no such model: use one of {names}", "model_not_found", "model")

    def _find_only(self, known: Mapping[str, WorkerInfo]) -> str:
        unnamed = [found for found, worker in known.items() if worker.model_name is None]
        names = unnamed or list(known)
        if len(names) > 1:
            raise Refused(
                422,
                f'workers have several models: send "model", one of {", ".join(sorted(names))}',
                param="model",
            )
        return names[0] if names else ""

    def _client(self, model: str | None) -> BertClient:
        if model not in self._clients:
            try:
                self._clients[model] = BertClient(
                    redis_url=self._url,
                    model=model,
                    timeout=self._timeout,
                    identity="http",
                    check_length=False,
                    on_full="wait" if self._timeout is None else "raise",
                    cache=self._cache_rows,
                )
            except SettingsError as error:  # worker info that another program has written
                raise Refused(404, str(error), "model_not_found", "model") from None
        return self._clients[model]

    def _close_unused(self, served: set[str | None]) -> None:
        """Close the clients of models that no worker has, unless they have requests."""
        for model, client in list(self._clients.items()):
            is_used = model in served or client.status["num_pending_request"]
            if client is not self._default_client and not is_used:
                del self._clients[model]
                self._closed_hits += client.cache_info.hits
                self._closed_misses += client.cache_info.misses
                task = asyncio.ensure_future(client.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            await client.aclose()
        await asyncio.gather(*self._closing)

    @property
    def cache_info(self) -> CacheInfo:
        """Hits, misses and size of the caches of all models."""
        found = [client.cache_info for client in list(self._clients.values())]
        return CacheInfo(
            self._closed_hits + sum(info.hits for info in found),
            self._closed_misses + sum(info.misses for info in found),
            sum(info.rows for info in found),
            sum(info.max_rows for info in found),
        )

    @property
    def default_client(self) -> BertClient:
        """The client of the model without a name."""
        return self._default_client
