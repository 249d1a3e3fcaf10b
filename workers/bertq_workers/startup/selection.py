"""The node name of a worker and the queues that it takes from, according to its options."""

import os
from collections.abc import Mapping
from typing import Any

from bertq.config.settings import Settings
from bertq.errors import SettingsError
from bertq.protocol import queues
from bertq.protocol.queues import Device, ModelQueues
from bertq_workers.celery_compat import worker_setup


def name_node(worker: Any, options: Mapping[str, object]) -> None:
    """Name a worker after its device and its model, unless the user named it with -n.

    The name is ``gpu0@host`` or ``gpu0-NAME@host``. Celery would name all workers of a machine
    celery@host.
    """
    if not worker_setup.has_default_name(worker):
        return
    try:
        names = queues.of_model(Settings.read(os.environ, options).model_name)
    except SettingsError:
        return  # the worker will refuse to start, with a better message
    devices = map(queues.parse_device, worker_setup.queue_option("queues"))
    device = next(filter(None, devices), None)
    if device is None:
        name = f"{names.shared}-{os.getpid()}"
    else:
        name = device.queue if names.model is None else f"{device.queue}-{names.model}"
    worker_setup.name_worker(worker, name)


def select_queues(worker: Any, names: ModelQueues) -> Device | None:
    """Select the queues of the worker's model only, and add the shared queues to a device's.

    Returns:
        The device of the worker, if its queues name one.

    Raises:
        SettingsError: a queue has an invalid name or belongs to another model, or no queue is left.
    """
    requested = set(worker_setup.selected_queues(worker))
    if names.model is not None and not worker_setup.queue_option("queues"):
        # Without -Q, Celery has selected the shared queues of the model without a name.
        requested = requested - {queues.SHARED, queues.SMALL} or {names.shared, names.small}
    excluded = {names.full_name(name) for name in worker_setup.queue_option("exclude_queues")}
    selected = {names.full_name(name) for name in requested} - excluded
    device = queues.device_of(sorted(selected))
    if device is not None:
        selected |= {names.shared, names.small} - excluded
    if not selected:
        raise SettingsError("-X leaves no queue to take from")
    worker_setup.select_queues(worker, selected)
    return device
