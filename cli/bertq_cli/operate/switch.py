"""``bertq models switch``: give the queues of a model to workers with another one."""

import sys
import time
from collections.abc import Sequence

import click
from redis import Redis

from bertq.errors import BertqError
from bertq.protocol import queues
from bertq.redis import redis_url
from bertq.redis.connection import connect
from bertq.redis.retry import Retry
from bertq.state import claims, durable_jobs, worker_info
from bertq.state.durable_jobs import JobInfo
from bertq.state.worker_info import WorkerInfo
from bertq_cli.help import print_error
from bertq_cli.operate import waiting
from bertq_cli.redis_option import redis_option
from bertq_cli.seconds import Seconds

#: Minimum characters of a fingerprint.
_MIN_DIGITS = 6

#: Seconds between two looks at durable jobs.
_POLL_SECONDS = 0.5


class SwitchRefused(BertqError):
    """The model cannot be replaced now; nothing was changed."""


@click.group(name="models", no_args_is_help=False)
def models() -> None:
    """Replace the model of running workers."""


@models.command(name="switch")
@click.argument("model")
@redis_option("The Redis of the workers.")
@click.option(
    "--model-name",
    envvar="BERTQ_MODEL_NAME",
    metavar="NAME",
    help="The model to replace, by the name in its queues; by default the one without a name. "
    "[BERTQ_MODEL_NAME]",
)
@waiting.timeout_option("an old worker")
@click.option(
    "--wait-for-jobs",
    "wait_seconds",
    type=Seconds(24 * 3600),
    help="Seconds to wait for the durable jobs that the old model has begun.",
)
@click.option(
    "--fail-jobs",
    is_flag=True,
    help="Do not wait for these jobs: they fail, and keep the vectors that they have.",
)
def switch(
    model: str,
    url: str,
    model_name: str | None,
    timeout: float,
    wait_seconds: float | None,
    fail_jobs: bool,
) -> None:
    """Give the queues to workers that stand by with another model, and drain the old workers.

    MODEL is the fingerprint of the new model, or its first digits, or the name of its directory, as
    bertq status shows it. Its workers were started with --standby, on the same queues, and have
    loaded it.

    From one moment on, no request begins with the old model. The old workers take no more chunks
    and finish those that they have; then the new ones begin. A request that the old model has begun
    and not finished is encoded again, as a whole, by the new one: no request gets rows of both.

    A durable job that the old model has begun cannot be encoded again. As long as there is one, the
    command refuses: wait for it with --wait-for-jobs, or let it fail with --fail-jobs.

    The user of Redis needs the rights of a worker.
    """
    names = queues.of_model(model_name or None)
    shared = [names.shared, names.small]
    with connect(url) as redis:
        new = waiting.read_first(url, lambda: _choose(redis, url, model, shared))
        if not new:
            click.echo(f"model {model} already serves {_place(shared, url)}")
            return
        fingerprint = new[0].fingerprint
        old = waiting.read_first(url, lambda: claims.others(redis, shared, fingerprint))
        _check_task(new[0], old)
        click.echo(f"new: {_describe(new)}")
        click.echo(f"old: {_describe(old) if old else 'no live worker'}")
        retry = waiting.retry(url)
        if not fail_jobs:
            _wait_for_jobs(redis, retry, shared, fingerprint, wait_seconds or 0.0)
        retry.call(lambda: claims.switch(redis, shared, fingerprint, old, timeout))
        click.echo(f"queues {' and '.join(shared)} now belong to {fingerprint[:12]}")
        with waiting.progress("the old workers drain, and the new ones begin"):
            failures = waiting.wait(redis, url, old, timeout, click.echo)
            if not failures:
                failures = _wait_until_serving(redis, url, new)
    for failure in failures:
        print_error(failure)
    sys.exit(1 if failures else 0)


def _choose(redis: Redis, url: str, model: str, shared: Sequence[str]) -> list[WorkerInfo]:
    """Return the workers that stand by with a model on some queues; none if it serves already.

    Raises:
        SwitchRefused: there are no such workers, or workers of several models fit.
    """
    found = [
        worker
        for worker in worker_info.read(redis, worker_info.STANDBY)
        if not set(shared).isdisjoint(worker.queues)
    ]
    chosen = [worker for worker in found if _is_meant(model, worker)]
    if not chosen:
        if any(_is_meant(model, it) for it in worker_info.read(redis) if shared[0] in it.queues):
            return []
        listed = ", ".join(sorted({f"{it.fingerprint[:12]} ({it.model})" for it in found}))
        raise SwitchRefused(
            f"no worker stands by with model {model} for {_place(shared, url)}; standing by: "
            f"{listed or 'none'}. Start its workers with celery -A bertq worker --standby"
        )
    if len({worker.fingerprint for worker in chosen}) > 1:
        listed = ", ".join(sorted({worker.fingerprint[:12] for worker in chosen}))
        raise SwitchRefused(f"workers of several models {model} stand by: give one of {listed}")
    return chosen


def _place(shared: Sequence[str], url: str) -> str:
    return f"queues {' and '.join(shared)} of {redis_url.redact(url)}"


def _is_meant(model: str, worker: WorkerInfo) -> bool:
    is_beginning = len(model) >= _MIN_DIGITS and worker.fingerprint.startswith(model)
    return is_beginning or model == worker.model


def _check_task(new: WorkerInfo, old: Sequence[WorkerInfo]) -> None:
    """Refuse a model that returns something else than the old one.

    Raises:
        SwitchRefused: the models have different tasks.
    """
    for worker in old:
        if worker.task != new.task:
            raise SwitchRefused(
                f"model {new.model} returns {new.returned}, and {worker.model} of {worker.node} "
                f"returns {worker.returned}: serve it under another name with --model-name"
            )


def _describe(workers: Sequence[WorkerInfo]) -> str:
    first = workers[0]
    nodes = ", ".join(worker.node for worker in workers)
    shape = " x ".join("n" if length is None else str(length) for length in first.row_shape)
    return f"{first.fingerprint[:12]}  {first.model}, {first.meaning}, rows of {shape}; {nodes}"


def _wait_for_jobs(
    redis: Redis, retry: Retry, shared: Sequence[str], fingerprint: str, wait_seconds: float
) -> None:
    """Wait for the durable jobs of these queues that another model has begun.

    Raises:
        SwitchRefused: they are not finished in time.
    """
    deadline = time.monotonic() + wait_seconds
    reported: set[str] = set()
    while begun := retry.call(lambda: _begun_jobs(redis, shared, fingerprint)):
        listed = ", ".join(f"{info.id[:8]} ({info.done:,} of {info.rows:,} rows)" for info in begun)
        if time.monotonic() >= deadline:
            raise SwitchRefused(
                f"the old model has begun durable jobs: {listed}; nothing was changed. Wait for "
                "them with --wait-for-jobs SECONDS, or let them fail with --fail-jobs"
            )
        if not {info.id for info in begun} <= reported:
            reported |= {info.id for info in begun}
            click.echo(f"waiting for durable jobs of the old model: {listed}")
        time.sleep(_POLL_SECONDS)


def _begun_jobs(redis: Redis, shared: Sequence[str], fingerprint: str) -> list[JobInfo]:
    return [
        info
        for info in durable_jobs.read(redis, durable_jobs.ids(redis))
        if info.queue in shared
        and not info.finished
        and info.fingerprint not in (None, fingerprint)
    ]


def _wait_until_serving(redis: Redis, url: str, new: Sequence[WorkerInfo]) -> list[str]:
    """Wait until the workers of the new model serve; return a line for each that does not."""
    deadline = time.monotonic() + waiting.REACTION_SECONDS

    def extend(_: Exception) -> None:
        nonlocal deadline
        deadline = time.monotonic() + waiting.REACTION_SECONDS  # the workers wait for Redis too

    retry = waiting.retry(url, extend)
    missing = {worker.instance: worker for worker in new}
    while missing and time.monotonic() < deadline:
        for worker in retry.call(lambda: worker_info.read(redis)):
            if missing.pop(worker.instance, None) is not None:
                click.echo(f"{worker.node} serves")
        time.sleep(_POLL_SECONDS)
    return [f"{worker.node} does not serve yet: look at its log" for worker in missing.values()]
