"""``bertq health``: a health check with exit status 0 or 1, for orchestrators."""

import json
import sys
import time
from dataclasses import replace
from typing import Any

import click
from redis import RedisError

from bertq.errors import BertqError, SettingsError
from bertq.protocol import queues
from bertq.redis import redis_url
from bertq.redis.connection import connect, explain
from bertq.state import health
from bertq.state.health import Health
from bertq_cli.redis_option import redis_option
from bertq_cli.seconds import Seconds

_SENTENCE = "This is a health check."


@click.command(name="health")
@redis_option("The Redis to ask.")
@click.option(
    "--model-name",
    "model",
    envvar="BERTQ_MODEL_NAME",
    metavar="NAME",
    help="Check the workers of this model; by default those without a name. [BERTQ_MODEL_NAME]",
)
@click.option("--node", metavar="NODE", help="Check one worker, by its name: gpu0@host.")
@click.option(
    "--queue",
    metavar="QUEUE",
    help="Check the worker of this host that takes from this queue: gpu0.",
)
@click.option(
    "--max-batch-seconds",
    type=Seconds(),
    default=health.MAX_BATCH_SECONDS,
    show_default=True,
    help="A worker hangs that has computed one batch for longer.",
)
@click.option("--probe", is_flag=True, help="Encode a sentence, too.")
@click.option(
    "--timeout",
    type=Seconds(3600),
    default=10.0,
    show_default=True,
    help="Seconds to wait for Redis, and for the vector.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
def check(as_json: bool, **options: Any) -> None:
    """Check a service, or one worker of it: exit status 0 if it is healthy, else 1.

    A service is healthy if Redis answers, and at least one worker of the model is alive and does
    not hang. With --node or --queue, this worker must be alive and not hang.
    """
    url: str = options["url"]
    found, seconds = _check(url, options)
    if as_json:
        document = {
            "healthy": found.healthy,
            "reason": found.reason,
            "redis_url": redis_url.redact(url),
            "workers": {worker.node: worker.work.batch_seconds for worker in found.workers},
            "probe_seconds": seconds,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(f"{'healthy' if found.healthy else 'unhealthy'}: {found.reason}")
    sys.exit(0 if found.healthy else 1)


def _check(url: str, options: dict[str, Any]) -> tuple[Health, float | None]:
    """Return the health of the service, and the seconds that the probe took, if one was sent.

    Raises:
        SettingsError: the options contradict each other, or name an impossible worker or queue.
    """
    if options["node"] and options["queue"]:
        raise SettingsError("--node and --queue both name a worker: leave out one of the two")
    names = queues.of_model(options["model"] or None)
    limit = options["max_batch_seconds"]
    with connect(url, options["timeout"]) as redis:
        try:
            if options["node"]:
                found = health.of_node(redis, options["node"], limit)
            elif options["queue"]:
                found = health.of_queue(redis, names.full_name(options["queue"]), limit)
            else:
                found = health.of_model(redis, names.model, limit)
        except RedisError as error:
            return Health(False, str(explain(error, url).error), []), None
    if not (found.healthy and options["probe"]):
        return found, None
    queue = names.full_name(options["queue"]) if options["queue"] else None
    if options["node"]:
        (worker,) = found.workers
        names = queues.of_model(worker.model_name)
        queue = next((name for name in worker.queues if not queues.is_shared(name)), None)
        if queue is None:
            raise SettingsError(
                f"{worker.node} takes from no queue that only it serves, so --probe cannot reach it"
            )
    return _probe(found, url, names.model, queue, options["timeout"])


def _probe(
    found: Health, url: str, model: str | None, queue: str | None, timeout: float
) -> tuple[Health, float | None]:
    """Encode a sentence; return the resulting health, and the seconds that it took."""
    # Imported late, because NumPy and the client take a moment.
    import numpy as np

    from bertq_client import BertClient, SparseRows

    started = time.perf_counter()
    try:
        with BertClient(
            redis_url=url, queue=queue, model=model, timeout=timeout,
            check_version=False, check_length=False,
        ) as client:  # fmt: skip
            rows = client.encode([_SENTENCE])
    except (BertqError, TimeoutError) as error:
        return replace(found, healthy=False, reason=f"a sentence got no vector: {error}"), None
    seconds = time.perf_counter() - started
    numbers = rows.values if isinstance(rows, SparseRows) else rows
    if rows.shape[0] != 1 or not np.isfinite(numbers).all():
        return replace(found, healthy=False, reason="a vector is not one of numbers"), seconds
    reason = f"{found.reason}; a sentence took {1000 * seconds:.0f} ms"
    return replace(found, reason=reason), seconds
