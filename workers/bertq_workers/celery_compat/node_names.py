"""Celery's names of workers.

Relies on a private part of celery 5.7 (the version is pinned, and tests/workers/test_selection.py
checks it): the default name of a worker.
"""

from typing import Any

from celery.utils.nodenames import default_nodename, gethostname, nodesplit


def has_default_name(worker: Any) -> bool:
    """Return whether the user has not named the worker with -n."""
    return bool(worker.hostname == default_nodename(""))


def name_worker(worker: Any, name: str) -> None:
    """Name a worker; the name of this host is added to it."""
    worker.hostname = f"{name}@{gethostname()}"


def is_on_this_host(node: str) -> bool:
    """Return whether a worker runs on this host, by its name."""
    return bool(nodesplit(node)[1] == gethostname())
