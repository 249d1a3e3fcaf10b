"""``bertq demo``: the whole way of a sentence, from nothing, on one machine."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bertq import redis_url
from bertq.connection import connect
from bertq_cli import model
from bertq_cli.processes import Worker, celery_worker, embedded_redis, terminable
from bertq_client import BertClient, inputs

SENTENCES = (
    "The cat sleeps on the sofa.",
    "A kitten naps in the sun.",
    "Stocks fell sharply on Monday.",
    "Shares lost a tenth this week.",
    "She plays the violin.",
    "He is learning the cello.",
)

#: Seconds for TensorFlow to be imported and a model to be loaded, on a slow machine.
_START_WITHIN = 300.0
_ENCODE_WITHIN = 120.0


@click.command()
@click.argument("sentences", nargs=-1)
@click.option(
    "--model-dir",
    envvar="BERTQ_MODEL_DIR",
    metavar="DIR",
    help=f"A BERT model of your own instead of {model.NAME}. [BERTQ_MODEL_DIR]",
)
def demo(sentences: tuple[str, ...], model_dir: str | None) -> None:
    """Encode SENTENCES, or a few of its own, on this machine.

    Gets a small model (once, 80 MB), starts a Redis server (unless BERTQ_REDIS_URL names one) and a
    worker, encodes, shows which sentences are closest, and stops what it started.
    """
    texts = list(sentences or SENTENCES)
    inputs.check_list(texts)
    console = Console(highlight=False)
    started = time.perf_counter()
    try:
        with terminable(), ExitStack() as stack:
            directory = model_dir or _model(console)
            url = _redis(console, stack)
            _run(console, stack, url, directory, texts)
            with console.status("stopping what was started"):
                stack.close()
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started is stopped")
        raise SystemExit(128 + signal.SIGINT) from None
    console.print(f"all in all  {time.perf_counter() - started:.1f} s, everything is stopped")


def _model(console: Console) -> str:
    here = model.is_cached()
    with _step(console, "model", "checking" if here else f"downloading {model.NAME}, 80 MB"):
        # What is cached has just been checked: reading 90 MB once is enough.
        directory = model.cached() if here else model.fetch()
    console.print(f"model       {model.NAME}, {'from the cache' if here else 'downloaded'}")
    return str(directory)


def _redis(console: Console, stack: ExitStack) -> str:
    if os.environ.get("BERTQ_REDIS_URL"):
        url = redis_url.from_environ(os.environ)
        console.print(f"redis       {redis_url.redact(url)}, as BERTQ_REDIS_URL says")
        return url
    url = stack.enter_context(embedded_redis())
    console.print(f"redis       embedded Valkey, {url}")
    return url


def _run(console: Console, stack: ExitStack, url: str, directory: str, texts: list[str]) -> None:
    client = stack.enter_context(BertClient(redis_url=url, timeout=_ENCODE_WITHIN))
    queue = "gpu0"  # the first GPU, or the CPU where there is none
    options = ["--concurrency", "1"]
    if os.environ.get("BERTQ_REDIS_URL"):
        # Somebody else's server: leave the work of their queues to their workers.
        queue = _free_queue(client, url)
        options += ["-X", "bertq,bertq.small"]
    options += ["-Q", queue]
    began = time.perf_counter()
    with _step(console, "worker", "loading TensorFlow and the model"):
        worker = stack.enter_context(
            celery_worker(options, {"BERTQ_REDIS_URL": url, "BERTQ_MODEL_DIR": directory})
        )
        _wait(worker, client, queue)
    advert = next(config for config in client.server_config.values() if queue in config["queues"])
    console.print(
        f"worker      {advert['node']} on {advert['device_name']}, "
        f"ready after {time.perf_counter() - began:.1f} s"
    )
    sender = stack.enter_context(BertClient(redis_url=url, queue=queue, timeout=_ENCODE_WITHIN))
    with _step(console, "encode", f"{len(texts)} sentences"):
        began = time.perf_counter()
        vectors = sender.encode(texts)
        elapsed = time.perf_counter() - began
    console.print(
        f"encoded     {len(texts)} sentences in {1000 * elapsed:.0f} ms: "
        f"shape {vectors.shape}, {vectors.dtype}"
    )
    console.print(closest(texts, vectors))


def _wait(worker: Worker, client: BertClient, queue: str) -> None:
    worker.wait_until(
        lambda: any(queue in config["queues"] for config in client.server_config.values()),
        _START_WITHIN,
    )


def _free_queue(client: BertClient, url: str) -> str:
    # Nobody else's: its messages would be answered with the demo's model.
    taken = {name for config in client.server_config.values() for name in config["queues"]}
    with connect(url) as redis:
        return next(
            name
            for name in (f"cpu{number}" for number in range(9999, -1, -1))
            if name not in taken and not redis.exists(name)
        )


@contextmanager
def _step(console: Console, name: str, doing: str) -> Iterator[None]:
    with console.status(f"{name:<10}  {doing} ..."):
        yield


def closest(texts: list[str], vectors: NDArray[np.float32]) -> Table:
    """Return a table of each sentence and the one whose vector is closest to its own.

    Args:
        texts: n sentences.
        vectors: float32 ``[n, dim]``; token vectors ``[n, length, dim]`` are compared whole.
    """
    flat = vectors.reshape(len(vectors), -1)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
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
