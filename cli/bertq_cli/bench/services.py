"""A temporary Redis, on which services run one after another."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bertq.system import cores
from bertq_cli.service.embedded_redis import Server, free_port
from bertq_cli.service.supervisor import Body, Report, Service, run_until_stopped
from bertq_cli.signals import exit_on_signals

_T = TypeVar("_T")

#: The number of databases of a Redis, by default.
_DATABASES = 16


@dataclass
class TemporaryRedis(Service):
    """A service with only a Redis; ``run_service`` runs the workers of other services on it."""

    _num_runs: int = field(default=0, init=False)
    _running: Service | None = field(default=None, init=False)

    async def run_service(self, service: Service, report: Report, body: Body) -> None:
        """Start a service's workers, run ``body`` once they are ready, and end them.

        Raises:
            ProcessFailed: a worker cannot be started.
        """
        self._running = service
        await service.run(report, body)

    def next_url(self) -> str:
        """Return the URL of a database in which no worker has recently claimed a queue."""
        number = self._num_runs % _DATABASES
        self._num_runs += 1
        return f"{self.url.rpartition('/')[0]}/{number}"

    def kill(self) -> None:
        """Kill all processes."""
        if self._running is not None:
            self._running.kill()
        super().kill()


def run_with_redis(use: Callable[[TemporaryRedis], Awaitable[None]], report: Report) -> int:
    """Start a Redis, run ``use``, and stop all processes.

    Returns:
        The number of the signal that ended it; 0 if ``use`` ended without one.
    """
    with exit_on_signals(), tempfile.TemporaryDirectory(prefix="bertq-bench-") as scratch:
        server = Server("127.0.0.1", free_port(), Path(scratch))
        redis = TemporaryRedis(server.url, [], [], {}, server=server)
        return asyncio.run(run_until_stopped(redis, report, lambda: use(redis)))


def workers(url: str, device_kind: str, count: int, variables: Mapping[str, str]) -> Service:
    """Return a service with ``count`` workers that share the cores.

    Args:
        url: address of its Redis.
        kind: ``cpu`` or ``gpu``.
        count: number of workers, each on its own device.
        variables: their settings.
    """
    queues = [f"{device_kind}{number}" for number in range(count)]
    return Service(url, queues, cores.divide(count), variables)


async def run_in_thread(work: Callable[[], _T], stop: Callable[[], None]) -> _T:
    """Run blocking work in a thread; on cancellation, call ``stop`` to make it end."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.to_thread(stop)
        await asyncio.wait([task])
        task.exception()  # ignore the error that stopping causes
        raise
