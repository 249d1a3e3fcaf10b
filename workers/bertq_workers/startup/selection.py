"""What a worker is called and which queues it takes from, as its options say.

Relies on the inside of celery 5.7 (the version is pinned, and tests/workers/test_selection.py looks
at each): the name of a worker that was given none; that ``select`` may be called once more when the
queues are selected; the names of the options -Q and -X.
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
    """Name a worker after its device and its model, unless the user has done it with -n.

    ``gpu0@host``, ``gpu0-NAME@host``: Celery would call all workers of one machine celery@host.
    """
    if worker.hostname != default_nodename(""):
        return
    try:
        names = queues.of_model(Settings.read(os.environ, options).model_name)
    except SettingsError:
        return  # the worker will refuse to start, in a moment and with better words
    device = next(filter(None, map(queues.parse_device, _option("queues"))), None)
    if device is None:
        name = f"{names.shared}-{os.getpid()}"
    else:
        name = device.queue if names.model is None else f"{device.queue}-{names.model}"
    worker.hostname = f"{name}@{gethostname()}"


def take_queues(worker: Any, names: ModelQueues) -> Device | None:
    """Have the worker take from queues of its model alone; add the shared queues to a device's.

    Raises:
        SettingsError: a queue has a wrong name, or belongs to another model, or none is left.
    """
    selected = worker.app.amqp.queues
    asked = set(selected.consume_from)
    if names.model is not None and not _option("queues"):
        # Without -Q Celery has selected the shared queues of the model without a name.
        asked = asked - {queues.SHARED, queues.SMALL} or {names.shared, names.small}
    excluded = {names.own(name) for name in _option("exclude_queues")}
    wanted = {names.own(name) for name in asked} - excluded
    device = queues.device_of(sorted(wanted))
    if device is not None:
        wanted |= {names.shared, names.small} - excluded
    if not wanted:
        raise SettingsError("-X leaves no queue to take from")
    selected.select(sorted(wanted))
    return device


def _option(name: str) -> list[str]:
    # Celery keeps -Q and -X to itself until the queues are selected; the command line knows them.
    context = click.get_current_context(silent=True)
    value = context.params.get(name) if context else None
    return list(value or [])
