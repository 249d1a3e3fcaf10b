"""The node name of a worker and the queues that it takes from, according to its options.

Relies on private parts of celery 5.7 (the version is pinned, and tests/workers/test_selection.py
checks each): the default name of a worker; that ``select`` may be called again once the queues are
selected; the names of the options -Q and -X.
"""

import os
from collections.abc import Mapping
from typing import Any

import click
from celery.utils.nodenames import default_nodename, gethostname

from bertq.config.settings import Settings
from bertq.errors import SettingsError
from bertq.protocol import queues
from bertq.protocol.queues import Device, ModelQueues


def name_node(worker: Any, options: Mapping[str, object]) -> None:
    """Name a worker after its device and its model, unless the user named it with -n.

    The name is ``gpu0@host`` or ``gpu0-NAME@host``. Celery would name all workers of a machine
    celery@host.
    """
    if worker.hostname != default_nodename(""):
        return
    try:
        names = queues.of_model(Settings.read(os.environ, options).model_name)
    except SettingsError:
        return  # the worker will refuse to start, with a better message
    device = next(filter(None, map(queues.parse_device, _option("queues"))), None)
    if device is None:
        name = f"{names.shared}-{os.getpid()}"
    else:
        name = device.queue if names.model is None else f"{device.queue}-{names.model}"
    worker.hostname = f"{name}@{gethostname()}"


def take_queues(worker: Any, names: ModelQueues) -> Device | None:
    """Select the queues of the worker's model only, and add the shared queues to a device's.

    Raises:
        SettingsError: a queue has an invalid name or belongs to another model, or no queue is left.
    """
    selected = worker.app.amqp.queues
    asked = set(selected.consume_from)
    if names.model is not None and not _option("queues"):
        # Without -Q, Celery has selected the shared queues of the model without a name.
        asked = asked - {queues.SHARED, queues.SMALL} or {names.shared, names.small}
    excluded = {names.full_name(name) for name in _option("exclude_queues")}
    selected_queues = {names.full_name(name) for name in asked} - excluded
    device = queues.device_of(sorted(selected_queues))
    if device is not None:
        selected_queues |= {names.shared, names.small} - excluded
    if not selected_queues:
        raise SettingsError("-X leaves no queue to take from")
    selected.select(sorted(selected_queues))
    return device


def _option(name: str) -> list[str]:
    # Celery does not pass -Q and -X on before the queues are selected; click's context has them.
    context = click.get_current_context(silent=True)
    value = context.params.get(name) if context else None
    return list(value or [])
