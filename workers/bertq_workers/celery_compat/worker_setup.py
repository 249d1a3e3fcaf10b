"""Names and options of Celery's worker that are read or changed while it starts.

Relies on private parts of celery 5.7 (the version is pinned; tests/workers/test_selection.py and
tests/security/test_remote_control.py check each): the default name of a worker; the names of the
options -Q and -X; that queues may be selected again; that the setting of the remote control is read
when the consumer is made.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import click
from celery.utils.nodenames import default_nodename, gethostname, nodesplit

from bertq.errors import SettingsError
from bertq_workers.celery_compat.pool import ChunkPool


def has_default_name(worker: Any) -> bool:
    """Return whether the user has not named the worker with -n."""
    return bool(worker.hostname == default_nodename(""))


def name_worker(worker: Any, name: str) -> None:
    """Name a worker; the name of this host is added to it."""
    worker.hostname = f"{name}@{gethostname()}"


def is_on_this_host(node: str) -> bool:
    """Return whether a worker runs on this host, by its name."""
    return bool(nodesplit(node)[1] == gethostname())


def queue_option(name: str) -> list[str]:
    """Return the queues of the option -Q (``queues``) or -X (``exclude_queues``)."""
    # Celery does not pass them on before the queues are selected; click's context has them.
    context = click.get_current_context(silent=True)
    value = context.params.get(name) if context else None
    return list(value or [])


def selected_queues(worker: Any) -> list[str]:
    """Return the names of the queues that a worker takes from, sorted."""
    return sorted(worker.app.amqp.queues.consume_from)


def select_queues(worker: Any, names: Iterable[str]) -> None:
    """Have a worker take from these queues instead of those selected before."""
    worker.app.amqp.queues.select(sorted(names))


def set_remote_control(worker: Any, enabled: bool) -> None:
    """Enable or disable Celery's remote control; before the consumer is made."""
    worker.app.conf.worker_enable_remote_control = enabled


def check_pool(worker: Any, options: Mapping[str, Any]) -> None:
    """Refuse options with which chunks would not run on the threads of ``ChunkPool``.

    Raises:
        SettingsError: names the option, and what to do.
    """
    if not (isinstance(worker.pool_cls, type) and issubclass(worker.pool_cls, ChunkPool)):
        raise SettingsError(
            f"pool {worker.pool_cls.__module__} cannot run the graph: leave out -P/--pool, and "
            "start one worker for each device"
        )
    if options.get("autoscale"):
        raise SettingsError("--autoscale has nothing to scale: --concurrency N runs N batches")
    if not worker.use_eventloop:
        # Nothing wakes the loop that Celery runs in that case: each chunk would be acknowledged
        # only when the next message arrives.
        raise SettingsError(
            "a worker needs Celery's event loop: it cannot run with gevent or eventlet"
        )
