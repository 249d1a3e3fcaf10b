"""``bertq drain``: have workers finish their chunks, and end."""

import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase

import click
from redis import Redis

from bertq.errors import BertqError
from bertq.redis import redis_url
from bertq.redis.connection import connect
from bertq.state import drain, worker_info
from bertq.state.worker_info import WorkerInfo
from bertq_cli.help import print_error
from bertq_cli.operate import waiting
from bertq_cli.redis_option import redis_option


class UnknownWorker(BertqError):
    """No live worker has the name, or matches the pattern."""


@click.command(name="drain")
@click.argument("names", metavar="WORKER...", nargs=-1, required=True)
@redis_option("The Redis of the workers.")
@waiting.timeout_option("a worker")
def drain_workers(names: tuple[str, ...], url: str, timeout: float) -> None:
    """Have workers take no more chunks, finish those that they have, and end, as SIGTERM does.

    WORKER is a name as bertq status shows it, gpu1@host, or a pattern: 'gpu*', '*@rack2'. The
    command waits until the workers have ended; exit status 0. No chunk is lost. If the command is
    interrupted, the workers continue to drain.

    A supervisor that restarts workers which have ended, as bertq serve and Kubernetes do, starts
    them again: reduce the number of workers there instead.

    The user of Redis needs the rights of a worker.
    """
    with connect(url) as redis:
        chosen = waiting.read_first(url, lambda: _choose(redis, url, names))
        waiting.retry(url).call(lambda: _request(redis, chosen, timeout))
        with waiting.progress("the workers drain"):
            failures = waiting.wait(redis, url, chosen, timeout, click.echo)
    for failure in failures:
        print_error(failure)
    sys.exit(1 if failures else 0)


def _request(redis: Redis, workers: Iterable[WorkerInfo], max_seconds: float) -> None:
    with redis.pipeline() as pipe:
        for worker in workers:
            drain.request(pipe, worker, max_seconds)
        pipe.execute()


def _choose(redis: Redis, url: str, names: tuple[str, ...]) -> list[WorkerInfo]:
    """Return the live workers that names and patterns stand for.

    Raises:
        UnknownWorker: a name or pattern stands for no worker; nothing was changed.
    """
    alive = worker_info.read(redis)
    found: dict[str, WorkerInfo] = {}
    for name in names:
        matching = {w.node: w for w in alive if name == w.node or fnmatchcase(w.node, name)}
        if not matching:
            listed = ", ".join(worker.node for worker in alive) or "none"
            raise UnknownWorker(
                f"no worker of {redis_url.redact(url)} is named {name!r}; alive: {listed}"
            )
        found |= matching
    return list(found.values())
