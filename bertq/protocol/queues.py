"""Names of the task and the queues; a queue is shared, or pins a worker to a device.

A named model has separate queues: ``bertq.NAME``, ``bertq.NAME.small`` and, for a device,
``bertq.NAME.gpu0``. The queues of the model without a name are ``bertq``, ``bertq.small`` and
``gpu0``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bertq.errors import SettingsError

#: Name of the only task.
ENCODE_TASK = "bertq.encode"

#: The queue of requests with more than ``PRIORITY_BATCH_SIZE`` sentences; every worker takes from
#: it.
SHARED = "bertq"

#: The queue of small requests. Workers take from both queues in turn, so that a large request never
#: delays a small one.
SMALL = "bertq.small"

#: Requests of at most this many sentences are small.
PRIORITY_BATCH_SIZE = 16

#: The rule for model names, for messages.
MODEL_NAMES = "take 1 to 64 letters, digits, - or _; not 'small', nor a device's name as gpu0"

_SMALL = "small"
_DEVICE_PATTERN = re.compile(r"(gpu|cpu)(0|[1-9][0-9]{0,3})")
_DEVICE_NAMES = "take gpu0, gpu1, ... or cpu0, cpu1, ..."
_MODEL_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Device:
    """The device of a worker: the N-th GPU, or the CPU as the N-th of several workers."""

    kind: Literal["gpu", "cpu"]
    index: int

    @property
    def queue(self) -> str:
        """The queue that pins a worker to this device."""
        return f"{self.kind}{self.index}"


@dataclass(frozen=True)
class ModelQueues:
    """The queues of one model.

    Attributes:
        model: name of the model; None for the model without a name.
    """

    model: str | None = None

    @property
    def shared(self) -> str:
        """The queue of large requests."""
        return SHARED if self.model is None else f"{SHARED}.{self.model}"

    @property
    def small(self) -> str:
        """The queue of small requests."""
        return f"{self.shared}.small"

    def for_size(self, sentences: int) -> str:
        """Return the queue for a request with this many sentences."""
        return self.small if sentences <= PRIORITY_BATCH_SIZE else self.shared

    def full_name(self, queue: str) -> str:
        """Return the full name of a queue of this model; ``gpu0`` is short for a device's queue.

        Raises:
            SettingsError: no such queue can exist, or it belongs to another model.
        """
        if _DEVICE_PATTERN.fullmatch(check(queue)) and self.model is not None:
            return f"{self.shared}.{queue}"
        owner = ModelQueues(model_of(queue))
        if owner != self:
            raise SettingsError(f"queue {queue} belongs to {owner}, not to {self}")
        return queue

    def __str__(self) -> str:
        return "the model without a name" if self.model is None else f"model {self.model}"


def of_model(model: str | None) -> ModelQueues:
    """Return the queues of a model; None stands for the model without a name.

    Raises:
        SettingsError: the name is invalid.
    """
    return ModelQueues(None if model is None else check_model(model))


def check_model(name: str) -> str:
    """Return a model's name if it is valid.

    Raises:
        SettingsError: the name is invalid, or its queues could be confused with others.
    """
    if isinstance(name, str) and _is_model(name):
        return name
    raise SettingsError(f"no model can be named {name!r}: {MODEL_NAMES}")


def parse_device(queue: str) -> Device | None:
    """Return the device that a queue's name stands for, or None if it is not a device's queue."""
    match = _DEVICE_PATTERN.fullmatch(_parse(queue)[1] or "")
    if match is None:
        return None
    return Device("gpu" if match[1] == "gpu" else "cpu", int(match[2]))


def model_of(queue: str) -> str | None:
    """Return the name of the model that a queue belongs to; None for the model without a name."""
    return _parse(queue)[0]


def is_shared(queue: str) -> bool:
    """Return whether all workers of a model take from a queue, regardless of their device."""
    return _parse(queue)[1] in ("", _SMALL)


def is_small(queue: str) -> bool:
    """Return whether a queue is for small requests."""
    return _parse(queue)[1] == _SMALL


def check(queue: str) -> str:
    """Return a queue's name if it is valid.

    Raises:
        SettingsError: the name is neither of a shared queue nor of a device's. A typo must not
            create a queue that no worker takes from.
    """
    if isinstance(queue, str) and _parse(queue)[1] is not None:
        return queue
    raise SettingsError(
        f"no queue is named {queue!r}: {_DEVICE_NAMES} for a device, {SHARED!r} or {SMALL!r} for "
        f"the shared queues, {SHARED + '.NAME'!r} and so on for those of model NAME"
    )


def device_of(queues: Sequence[str]) -> Device | None:
    """Return the only device that a worker's queues pin it to, or None if they name no device.

    Raises:
        SettingsError: the name of a queue is invalid, or the queues name two devices.
    """
    devices = {device for queue in queues if (device := parse_device(check(queue)))}
    if len(devices) > 1:
        names = ", ".join(sorted(device.queue for device in devices))
        raise SettingsError(
            f"a worker runs on one device, not on {names}: start one worker for each"
        )
    return devices.pop() if devices else None


def _parse(queue: str) -> tuple[str | None, str | None]:
    """Return the queue's model, and its part: "", "small" or a device; None if it is invalid."""
    match queue.split("."):
        case [device] if _DEVICE_PATTERN.fullmatch(device):
            return None, device
        case ["bertq"]:
            return None, ""
        case ["bertq", "small"]:
            return None, _SMALL
        case ["bertq", model] if _is_model(model):
            return model, ""
        case ["bertq", model, part] if _is_model(model):
            if part == _SMALL or _DEVICE_PATTERN.fullmatch(part):
                return model, part
    return None, None


def _is_model(name: str) -> bool:
    if name == _SMALL or _DEVICE_PATTERN.fullmatch(name):
        return False  # its queues could be confused with others
    return _MODEL_PATTERN.fullmatch(name) is not None
