"""Waiting for workers that drain."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from redis import Redis

from bertq.errors import BertqError
from bertq.protocol import time_to_live
from bertq.redis import sentinel
from bertq.redis.retry import Retry
from bertq.state import worker_info
from bertq.state.worker_info import WorkerInfo
from bertq_cli.seconds import Seconds

#: Time for a worker to begin to drain; it looks for a request every 5 s. Also the time without a
#: renewal of its registration after which it does not answer.
REACTION_SECONDS = 30.0

#: How long commands are repeated while Redis is unreachable, as in a failover, or full.
RETRY_SECONDS = 60.0

#: Additional time for a worker to end after it has returned its chunks.
_END_SECONDS = 30.0

_POLL_SECONDS = 0.2


class ProgressUnknown(BertqError):
    """A request was made, and whether workers have followed it cannot be read."""


_Command = TypeVar("_Command", bound=Callable[..., Any])
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class _Registration:
    """The registration of a worker: its info, whether it drains, and when the info expires."""

    worker: WorkerInfo
    is_draining: bool
    expires_at: float  # monotonic time


def timeout_option(worker: str) -> Callable[[_Command], _Command]:
    """Return the option for the maximum seconds of a drain; ``worker`` is who drains."""
    return click.option(
        "--timeout",
        type=Seconds(24 * 3600),
        default=60.0,
        show_default=True,
        help=f"Seconds after which {worker} returns unfinished chunks to their queues, and ends.",
    )


@dataclass
class _Drain:
    """The drain of a worker, as its registrations show it."""

    worker: WorkerInfo
    has_begun: bool = False
    expires_at: float = math.inf  # of the last registration, monotonic time; infinite without one

    def update(self, registration: _Registration, report: Callable[[str], object]) -> None:
        """Take a registration into account."""
        last = 0.0 if math.isinf(self.expires_at) else self.expires_at
        self.expires_at = max(registration.expires_at, last)
        if registration.is_draining and not self.has_begun:
            self.has_begun = True
            report(f"{self.worker.node} drains: {_chunks(registration.worker)} to finish")

    def find_failure(
        self, now: float, began: float, outage_end: float, max_seconds: float, *, is_gone: bool
    ) -> str | None:
        """Return what is wrong with a worker that has not ended, if anything.

        Args:
            now, began, outage_end: monotonic times; also when the request was made, and when Redis
                was unreachable the last time.
            max_seconds: the maximum seconds of the drain.
            is_gone: whether the registration has expired.
        """
        node = self.worker.node
        process = f"process {self.worker.pid} on {node.partition('@')[2]}"
        waited_seconds = now - max(began, outage_end)
        renewed_at = self.expires_at - time_to_live.WORKER_SECONDS
        if is_gone and now - max(renewed_at, outage_end) > REACTION_SECONDS:
            silent = f"{node} has not answered for {now - renewed_at:.0f} s"
            return f"{silent}: its {process} may still run"
        if not self.has_begun and waited_seconds > REACTION_SECONDS:
            return (
                f"{node} has not begun to drain after {now - began:.0f} s (a worker of an older "
                f"version does not): send SIGTERM to {process}"
            )
        if waited_seconds > REACTION_SECONDS + max_seconds + _END_SECONDS:
            return f"{node} has not ended after {now - began:.0f} s: kill {process}"
        return None


def retry(url: str, on_retry: Callable[[Exception], object] = lambda _: None) -> Retry:
    """Return a helper that repeats commands for a minute."""
    return Retry(
        url, full_seconds=RETRY_SECONDS, unreachable_seconds=RETRY_SECONDS, on_retry=on_retry
    )


def read_first(url: str, read: Callable[[], _Read]) -> _Read:
    """Read the state of the service before anything is requested.

    With Sentinels, this is repeated for a minute: a failover may be in progress. Without, Redis may
    not run at all.

    Raises:
        BertqError: Redis cannot be reached.
    """
    seconds = RETRY_SECONDS if sentinel.is_url(url) else 0.0
    return Retry(url, full_seconds=seconds, unreachable_seconds=seconds).call(read)


@contextmanager
def progress(consequence: str) -> Iterator[None]:
    """Say that a request was made, if Ctrl-C or Redis ends the wait for its effect.

    Args:
        consequence: what happens all the same, as in "the workers drain".

    Raises:
        ProgressUnknown: Redis has not answered for a minute.
    """
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"{consequence} all the same: see bertq status", err=True)
        sys.exit(128 + signal.SIGINT)
    except BertqError as error:
        raise ProgressUnknown(
            f"the request was made and goes on: see bertq status; {error}"
        ) from None


def wait(
    redis: Redis,
    url: str,
    workers: Iterable[WorkerInfo],
    max_seconds: float,
    report: Callable[[str], object],
) -> list[str]:
    """Wait until workers that were asked to drain have ended.

    A worker that ends withdraws its registration. If the registration expires instead, the worker
    is frozen or dead, or cannot reach Redis.

    Args:
        redis: a connection.
        url: address of Redis, for errors.
        workers: the runs of the workers.
        max_seconds: the maximum seconds of their drain.
        report: called with a line when a worker has begun to drain, and when it has ended.

    Returns:
        An error message for each worker that has not ended in time.

    Raises:
        BertqError: Redis has not answered for a minute.
    """
    began = time.monotonic()
    outage_end = -math.inf

    def note(_: Exception) -> None:
        nonlocal outage_end
        outage_end = time.monotonic()  # the workers did not reach Redis either

    repeated = retry(url, note)
    drains = {worker.instance: _Drain(worker) for worker in workers}
    while True:
        found = repeated.call(lambda: _find(redis, set(drains)))
        now = time.monotonic()
        failures: list[str] = []
        for instance, drain in list(drains.items()):
            registration = found.get(instance)
            if registration is not None:
                drain.update(registration, report)
            elif now < drain.expires_at:
                del drains[instance]
                report(f"{drain.worker.node} has ended after {now - began:.0f} s")
                continue
            is_gone = registration is None
            failure = drain.find_failure(now, began, outage_end, max_seconds, is_gone=is_gone)
            if failure is not None:
                failures.append(failure)
        if len(failures) == len(drains):
            return failures
        time.sleep(_POLL_SECONDS)


def _find(redis: Redis, instances: set[str]) -> dict[str, _Registration]:
    """Return the registrations of some runs of workers."""
    found: dict[str, _Registration] = {}
    # In this order: a worker is in the second list before it leaves the first.
    for where in (worker_info.SERVING, worker_info.DRAINING):
        alive = [it for it in worker_info.read(redis, where) if it.instance in instances]
        asked_at = time.monotonic()
        lives_seconds = worker_info.seconds_left(redis, alive, where)
        for worker, seconds in zip(alive, lives_seconds, strict=True):
            if seconds < 0:
                continue  # withdrawn since the list was read
            found[worker.instance] = _Registration(
                worker, where is worker_info.DRAINING, asked_at + seconds
            )
    return found


def _chunks(worker: WorkerInfo) -> str:
    count = worker.work.held_chunks
    return f"{count} chunk" if count == 1 else f"{count} chunks"
