"""``bertq status``: show workers, queues and counters."""

import json
import time
from collections.abc import Iterable
from itertools import pairwise

import click
from redis import RedisError
from rich.console import Console
from rich.table import Table

from bertq.redis import redis_url
from bertq.redis.connection import connect, explain
from bertq.state import status
from bertq.state.status import QueueStatus, Status
from bertq.state.worker_info import WorkerInfo
from bertq_cli.redis_option import redis_option


@click.command(name="status")
@redis_option("The Redis to ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
def show(url: str, as_json: bool) -> None:
    """Show workers, queues and counters, as Redis knows them; no worker is asked."""
    with connect(url) as redis:
        try:
            found = status.read(redis)
        except RedisError as error:
            raise explain(error, url).error from None
    if as_json:
        click.echo(json.dumps({"redis_url": redis_url.redact(url), **found.document()}, indent=2))
        return
    console = Console(highlight=False)
    console.print(f"redis       {redis_url.redact(url)}", markup=False, soft_wrap=True)
    console.print(workers(found.workers) if found.workers else "workers     none is alive")
    for worker in found.draining:
        console.print(f"draining    {drains(worker)}", markup=False, soft_wrap=True)
    for worker in found.standby:
        console.print(f"standby     {worker.node}  {model(worker)}", markup=False, soft_wrap=True)
    for line in sorted({model(worker) for worker in found.workers}):
        console.print(f"model       {line}", markup=False, soft_wrap=True)
    console.print(queues(found.queues))
    console.print(f"unacked     {found.unacked} {_plural(found.unacked, 'chunk')} with workers")
    console.print(f"requests    {requests(found)}", soft_wrap=True)
    for warning in found.warnings:
        console.print(f"warning     {warning}", markup=False, soft_wrap=True)


def workers(workers: Iterable[WorkerInfo]) -> Table:
    """Return a table of the workers."""
    table = Table("worker", "device", "model", "up", "sentences", "per s", "busy", "failed")
    table.columns[0].overflow = "fold"  # bertq drain needs the whole name
    for column in table.columns[3:]:
        column.justify = "right"
    for column in table.columns[4:]:
        column.no_wrap = True
    for worker in workers:
        work = worker.work
        table.add_row(
            worker.node,
            worker.device_name,
            _short(worker),
            duration(time.time() - worker.started),
            f"{work.sentences:,}",
            f"{work.sentences_per_second:,.1f}",
            f"{100 * work.busy:.0f} %",
            f"{work.failures:,}",
        )
    return table


def drains(worker: WorkerInfo) -> str:
    """Return a description of a worker that drains."""
    chunks = worker.work.held_chunks
    return f"{worker.node}  {_short(worker)}, {chunks} {_plural(chunks, 'chunk')} to finish"


def model(worker: WorkerInfo) -> str:
    """Return a model's name, the start of its fingerprint, and a description of its rows."""
    return f"{_short(worker)}  {worker.model}, {worker.meaning}"


def _short(worker: WorkerInfo) -> str:
    return " ".join(filter(None, (worker.model_name, worker.fingerprint[:8])))


def queues(found: Iterable[QueueStatus]) -> Table:
    """Return a table of the queues."""
    table = Table("queue", "chunks waiting", "work", "workers", "claimed for")
    for column in table.columns[1:4]:
        column.justify = "right"
    for queue in found:
        claim = queue.fingerprint[:8] if queue.fingerprint else "-"
        seconds = queue.waiting_seconds
        work = "-" if seconds is None else f"{seconds:,.1f} s"
        table.add_row(queue.name, f"{queue.chunks:,}", work, str(len(queue.workers)), claim)
    return table


def requests(found: Status) -> str:
    """Return the line about the requests of all clients."""
    counted = found.statistic
    return (
        f"{counted['num_data_request']:,} with {counted['num_total_seq']:,} sentences, "
        f"{counted['requests_per_second']:.2f} per second in the last minute; "
        f"{counted['num_total_client']:,} {_plural(counted['num_total_client'], 'client')}, "
        f"{counted['num_active_client']:,} active"
    )


def duration(seconds: float) -> str:
    """Return a duration in two units, such as ``3 h 5 min``."""
    whole = max(0, int(seconds))
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (large, size), (small, part) in pairwise(units):
        if whole >= size:
            return f"{whole // size} {large} {whole % size // part} {small}"
    return f"{whole} s"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
