"""The files and batches of a gateway, and the task that runs batches."""

import asyncio
import hashlib
import logging
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from fastapi import Request
from redis import RedisError

from bertq.redis.connection import connect
from bertq_gateway.batches import storage
from bertq_gateway.batches.lease import BatchLease, LeaseLost
from bertq_gateway.batches.objects import ENDED
from bertq_gateway.batches.run import BatchRun
from bertq_gateway.batches.settings import BatchSettings
from bertq_gateway.batches.storage import StorageLog
from bertq_gateway.batches.store import BatchStore
from bertq_gateway.errors import Refused
from bertq_gateway.models import Models
from bertq_gateway.state import State

log = logging.getLogger("bertq.gateway")

_T = TypeVar("_T")

#: Batches that a gateway runs at the same time; those that wait for workers do not count, up to
#: another limit.
_MAX_RUNS, _MAX_STALLED_RUNS = 2, 30

#: Threads for files: those of running batches, and those of requests.
_THREADS = 8

#: Seconds between two searches for expired files.
_CLEANUP_SECONDS = 600.0

#: Seconds until a batch is tried again after an unexpected error.
_RETRY_SECONDS = 60.0

#: The directory of callers without a key.
_NO_KEY = "nokey"

#: The names of the directories of keys: no key, or a hash.
_OWNER = re.compile(rf"{_NO_KEY}|[0-9a-f]{{32}}")


@dataclass
class _Running:
    """A batch that runs here.

    Attributes:
        owner: name of the directory of its key.
        task: runs it.
        run: its run, once its record was read.
    """

    owner: str
    task: asyncio.Task[None]
    run: BatchRun | None = None

    @property
    def is_stalled(self) -> bool:
        """Whether it waits for workers, for Redis or for the disk."""
        return self.run is not None and self.run.is_stalled


class _OpenBatch(NamedTuple):
    """A batch that has not ended."""

    owner: str
    id: str
    is_cancelled: bool


class Batches:
    """The files and batches of a gateway.

    Args:
        settings: the settings.
        state: the state of the gateway.
    """

    def __init__(self, settings: BatchSettings, state: State) -> None:
        config = state.config
        self._settings = settings
        self._state = state
        self._models = Models(config.redis_url, None, config.aliases)
        self._redis = connect(config.redis_url)
        # Of its own: a slow disk must not delay other requests.
        self._threads = ThreadPoolExecutor(_THREADS, "bertq-batches")
        self._holder = storage.new_id("gateway-")
        self._stores: dict[str, BatchStore] = {}
        self._runs: dict[str, _Running] = {}
        self._ended: set[str] = set()
        self._retry_at: dict[str, float] = {}
        self._cleaned_at = 0.0
        self._is_due = asyncio.Event()
        self._log = StorageLog(settings.directory)
        self._task = asyncio.create_task(self._work())

    @classmethod
    def of(cls, request: Request) -> "Batches":
        """Return the batches of the application that receives a request.

        Raises:
            Refused: the gateway has no directory for them.
        """
        found = request.app.state.batches
        if found is None:
            raise Refused(
                404,
                "this gateway has no files and batches: start it with bertq http --batch-dir DIR "
                "(or set BERTQ_HTTP_BATCH_DIR)",
                "batches_off",
            )
        assert isinstance(found, cls)
        return found

    def store(self, request: Request) -> BatchStore:
        """Return the files and batches of the caller's API key."""
        if not self._state.config.api_keys:
            return self._store(_NO_KEY)
        key = request.headers.get("authorization", "").partition(" ")[2].strip()
        return self._store(hashlib.sha256(key.encode()).hexdigest()[:32])

    def _store(self, owner: str) -> BatchStore:
        if owner not in self._stores:
            self._stores[owner] = BatchStore(self._settings.directory / owner, self._settings)
        return self._stores[owner]

    def _owners(self) -> list[str]:
        """Return the names of the directories of keys; the directory may have other contents."""
        return storage.subdirectories(self._settings.directory, _OWNER)

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Run a function on another thread, to its end, even if the call is cancelled."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, lambda: function(*arguments))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            future.exception()  # nobody else reads it
            raise

    async def serve(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Run a function for a request on another thread, to its end.

        Raises:
            Refused: the directory cannot be used.
        """
        try:
            return await self.run(function, *arguments)
        except OSError as error:
            raise self._log.failed(error) from None

    def wake(self) -> None:
        """Look for new and cancelled batches now."""
        self._is_due.set()

    async def close(self) -> None:
        """Stop all runs; other gateways continue them."""
        tasks = [self._task, *(running.task for running in self._runs.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._models.close()
        self._threads.shutdown()
        self._redis.close()

    # -- running batches

    async def _work(self) -> None:
        while True:
            try:
                await self._start_runs()
                if time.monotonic() - self._cleaned_at >= _CLEANUP_SECONDS:
                    await self.run(self._clean_up)
                    self._cleaned_at = time.monotonic()
                await self.run(self._log.check)
            except RedisError:
                pass  # every request logs that
            except OSError as error:
                self._log.failed(error)
            except Exception as error:
                log.error("batches cannot be started: %s", _describe(error))
            self._is_due.clear()
            try:
                await asyncio.wait_for(self._is_due.wait(), self._settings.poll_seconds)
            except TimeoutError:
                continue

    async def _start_runs(self) -> None:
        """Run batches that no gateway runs.

        Raises:
            OSError: the directory cannot be read.
            RedisError: Redis cannot be reached.
        """
        waiting = await self.run(self._find_open)
        while waiting:
            # Each key has its turn; cancelled batches take no time.
            counts = Counter(running.owner for running in self._runs.values())
            waiting.sort(key=lambda found: (not found.is_cancelled, counts[found.owner], found.id))
            found = waiting.pop(0)
            if not (found.is_cancelled or self._has_capacity):
                return
            settings = self._settings
            lease = BatchLease(
                self._redis, found.id, self._holder, settings.lease_seconds, self.run
            )
            if await lease.take():
                task = asyncio.create_task(self._run_batch(found, lease))
                self._runs[found.id] = _Running(found.owner, task)

    @property
    def _has_capacity(self) -> bool:
        num_stalled = sum(running.is_stalled for running in self._runs.values())
        return num_stalled < _MAX_STALLED_RUNS and len(self._runs) - num_stalled < _MAX_RUNS

    def _find_open(self) -> list[_OpenBatch]:
        """Return the batches that have not ended and do not run here."""
        found: list[_OpenBatch] = []
        for owner in self._owners():
            try:
                found += self._find_open_of(owner)
            except OSError as error:
                self._log.failed(error)  # those of other keys can run
        return found

    def _find_open_of(self, owner: str) -> list[_OpenBatch]:
        found = []
        store = self._store(owner)
        for batch_id in store.ids():
            is_due = time.monotonic() >= self._retry_at.get(batch_id, 0.0)
            if batch_id in self._ended or batch_id in self._runs or not is_due:
                continue
            record = store.record(batch_id)
            if record is not None and record.batch.status in ENDED:
                self._ended.add(batch_id)
            elif record is not None:
                is_cancelled = store.cancelled_at(batch_id) is not None
                found.append(_OpenBatch(owner, batch_id, is_cancelled))
        return found

    async def _run_batch(self, found: _OpenBatch, lease: BatchLease) -> None:
        store = self._store(found.owner)
        try:
            # Read with the lease: another gateway may just have ended it.
            record = await self.run(store.record, found.id)
            if record is not None and record.batch.status not in ENDED:
                run = BatchRun(
                    record, store, self._settings, self._state, self._models, lease,
                    self._holder, self.run, self._log,
                )  # fmt: skip
                self._runs[found.id].run = run
                await run.execute()
        except LeaseLost:
            pass
        except Exception as error:
            if isinstance(error, OSError):
                self._log.failed(error)
            log.error("%s failed, and is tried again: %s", found.id, _describe(error))
            self._retry_at[found.id] = time.monotonic() + _RETRY_SECONDS
        finally:
            await lease.release()
            del self._runs[found.id]
            self.wake()

    def _clean_up(self) -> None:
        known: set[str] = set()
        for owner in self._owners():
            store = self._store(owner)
            try:
                store.remove_expired()
                known.update(store.ids())
            except OSError as error:
                self._log.failed(error)
        self._ended &= known


def _describe(error: Exception) -> str:
    """Return an error without its message, which may contain a text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}, line {place.lineno}"
