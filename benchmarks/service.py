"""The service that benchmarks measure, and the encoder without a queue for comparison."""

import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import click

from benchmarks.peers.peer_main import Settings
from benchmarks.peers.process import PeerProcess
from bertq.system import cores
from bertq_cli.bench.services import TemporaryRedis, run_in_thread, run_with_redis, workers
from bertq_cli.service.embedded_redis import free_port
from bertq_cli.service.supervisor import Service

#: Longest sequence in tokens, unless a benchmark has an option for it.
MAX_SEQ_LEN = 40


class Bench(Protocol):
    """Measurements that block, and a way to interrupt them."""

    def run(self) -> None:
        """Measure."""

    def stop(self) -> None:
        """Make ``run`` fail at once, and close connections."""


def report(label: str, text: str) -> None:
    """Print a message of a service."""
    click.echo(f"{label:<10}  {text}", err=True)


def run_benchmark(measure: Callable[[TemporaryRedis], Awaitable[None]]) -> None:
    """Start a Redis, run ``measure``, and stop all processes; exit if a signal came."""
    stopped_by = run_with_redis(measure, report)
    if stopped_by:
        sys.exit(128 + stopped_by)


def measure_one_worker(
    model_dir: Path,
    measure: Callable[[Service], Awaitable[None]],
    *,
    device: str = "cpu",
    variables: Mapping[str, str] | None = None,
    with_gateway: bool = False,
) -> None:
    """Run a service of one worker on all cores, with the settings of ``start_encoder``.

    Args:
        model_dir: directory of the model.
        measure: called once the service is ready; the service ends afterwards.
        device: ``cpu`` or ``gpu``, the first one.
        variables: other settings of the worker.
        with_gateway: whether the service has a gateway, at its ``http_port``.
    """
    settings = {
        "BERTQ_MODEL_DIR": str(model_dir),
        "BERTQ_MAX_SEQ_LEN": str(MAX_SEQ_LEN),
        "BERTQ_POOLING_LAYER": "-1",
        **(variables or {}),
    }

    async def run(redis: TemporaryRedis) -> None:
        service = workers(redis.next_url(), device, 1, settings)
        if with_gateway:
            service.http_port = free_port()
        await redis.run_service(service, report, partial(measure, service))

    run_benchmark(run)


def start_encoder(model_dir: Path) -> PeerProcess:
    """Start the encoder in its own process, on all cores, without a queue."""
    settings = Settings(model_dir, MAX_SEQ_LEN, cores.available())
    return PeerProcess("own", settings, ["float32"])


async def run_bench(bench: Bench) -> None:
    """Run measurements in a thread, and stop them afterwards."""
    try:
        await run_in_thread(bench.run, bench.stop)
    finally:
        bench.stop()
