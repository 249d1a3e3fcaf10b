"""The models that a gateway serves, by the names that callers know them by."""

import asyncio
import time
from collections.abc import Mapping

from bertq import BertClient
from bertq.errors import NoWorker, SettingsError
from bertq.state.worker_info import WorkerInfo, WorkerStats
from bertq_gateway.errors import Refused

#: Seconds that a look at the adverts holds.
_FRESH = 2.0


class Models:
    """One client for each model, made when somebody asks for it.

    The model without a name goes by the name of its directory.

    Args:
        redis_url: where the queues are.
        timeout: seconds that a request has.
        aliases: further names.
    """

    def __init__(self, redis_url: str, timeout: float, aliases: Mapping[str, str]) -> None:
        self._url = redis_url
        self._timeout = timeout
        self._aliases = aliases
        self._clients: dict[str | None, BertClient] = {}
        self._adverts: list[WorkerInfo] = []
        self._read_at = -_FRESH
        self._reading = asyncio.Lock()
        self._plain = self._client(None)

    async def adverts(self) -> list[WorkerInfo]:
        """Return the adverts of the workers that are alive.

        Raises:
            RedisUnavailable: Redis cannot be asked.
        """
        async with self._reading:
            if time.monotonic() - self._read_at >= _FRESH:
                found = await asyncio.to_thread(lambda: self._plain.server_config)
                self._adverts = [
                    WorkerInfo(**{**fields, "work": WorkerStats(**fields["work"])})
                    for fields in found.values()
                ]
                self._read_at = time.monotonic()
            return self._adverts

    async def names(self) -> dict[str, WorkerInfo]:
        """Return what can be asked for, each with one of the workers that has it."""
        # A name that was given goes before the name of a directory.
        found = sorted(await self.adverts(), key=lambda advert: advert.model_name is not None)
        return {name(advert): advert for advert in found}

    async def find(self, asked: str | None) -> tuple[str, BertClient]:
        """Return the name and the client of a model.

        Args:
            asked: its name, an alias of it, or None for the only one.

        Raises:
            NoWorker: no worker is alive, of any model.
            Refused: there is no such model.
        """
        known = await self.names()
        wanted = self._aliases.get(asked, asked) if asked is not None else self._only(known)
        advert = known.get(wanted)
        if advert is not None:
            return wanted, self._client(advert.model_name)
        if not known:
            raise NoWorker("no worker is alive: start one (celery -A bertq worker)")
        there = ", ".join(sorted(known))
        raise Refused(404, f"there is no such model here, but {there}", "model_not_found", "model")

    def _only(self, known: Mapping[str, WorkerInfo]) -> str:
        without = [found for found, advert in known.items() if advert.model_name is None]
        names = without or list(known)
        if len(names) > 1:
            raise Refused(422, f"say which model: {', '.join(sorted(names))}", param="model")
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
                    on_full="raise",
                )
            except SettingsError as error:  # an advert that nobody but another program has made
                raise Refused(404, str(error), "model_not_found", "model") from None
        return self._clients[model]

    async def close(self) -> None:
        """End the clients."""
        for client in self._clients.values():
            await client.aclose()

    @property
    def plain(self) -> BertClient:
        """The client of the model without a name."""
        return self._plain


def name(advert: WorkerInfo) -> str:
    """Return what a worker's model is called over HTTP."""
    return advert.model_name or advert.model
