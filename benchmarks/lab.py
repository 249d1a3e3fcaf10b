"""A service to measure, in the surroundings that all benchmarks of this folder have."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from benchmarks.peers.guest import Guest
from bertq.system import cores
from bertq_cli.bench.services import TemporaryRedis, run_with_redis, workers
from bertq_cli.service.supervisor import Service

#: What is measured unless a benchmark says otherwise.
MAX_SEQ_LEN = 40


def say(what: str, text: str) -> None:
    """Tell what a service says."""
    click.echo(f"{what:<10}  {text}", err=True)


def run(act: Callable[[TemporaryRedis], Awaitable[None]]) -> None:
    """Start a Redis, run ``act``, and stop everything; ends the program if it was interrupted."""
    stopped_by = run_with_redis(act, say)
    if stopped_by:
        sys.exit(128 + stopped_by)


def one_worker(stage: TemporaryRedis, model_dir: Path) -> Service:
    """Return a service of one worker on all cores, set up as ``encoder`` is."""
    variables = {
        "BERTQ_MODEL_DIR": str(model_dir),
        "BERTQ_MAX_SEQ_LEN": str(MAX_SEQ_LEN),
        "BERTQ_POOLING_LAYER": "-1",
    }
    return workers(stage.next_url(), "cpu", 1, variables)


def encoder(model_dir: Path) -> Guest:
    """Return the encoder in a process of its own, on all cores, without any queue."""
    return Guest("own", model_dir, MAX_SEQ_LEN, cores.available(), ["float32"])
