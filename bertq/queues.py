"""Names of the task and of queues: which are shared, which pin a worker to a device."""

import re
from dataclasses import dataclass
from typing import Literal

from bertq.errors import SettingsError

#: Name of the one task.
ENCODE_TASK = "bertq.encode"

#: The queue of requests of more than ``PRIORITY_BATCH_SIZE`` sentences; every worker takes from it.
SHARED = "bertq"

#: The queue of small requests. Workers take from the two in turn, so that a large request never
#: keeps a small one waiting.
SMALL = "bertq.small"

#: Requests of at most this many sentences are small.
PRIORITY_BATCH_SIZE = 16

_DEVICE = re.compile(r"(gpu|cpu)(0|[1-9][0-9]{0,3})")


@dataclass(frozen=True)
class Device:
    """What a worker computes on: the N-th GPU, or the CPU as the N-th of several workers."""

    kind: Literal["gpu", "cpu"]
    index: int

    @property
    def queue(self) -> str:
        """The queue that pins a worker to this device."""
        return f"{self.kind}{self.index}"


def parse_device(queue: str) -> Device | None:
    """Return the device that a queue's name stands for, or None if it is no device queue."""
    match = _DEVICE.fullmatch(queue)
    if match is None:
        return None
    return Device("gpu" if match[1] == "gpu" else "cpu", int(match[2]))


def check(queue: str) -> str:
    """Return the queue's name if there can be such a queue.

    Raises:
        SettingsError: it is neither a shared queue nor a device's; a typo must not become a queue
            that nobody takes from.
    """
    if queue in (SHARED, SMALL) or parse_device(queue) is not None:
        return queue
    raise SettingsError(
        f"no queue is named {queue!r}: take gpu0, gpu1, ... or cpu0, cpu1, ... for a device, "
        f"{SHARED!r} or {SMALL!r} for the shared queues"
    )


def device_of(queues: list[str]) -> Device | None:
    """Return the one device that a worker's queues pin it to, or None if they name none.

    Raises:
        SettingsError: a queue has a wrong name, or two devices are named.
    """
    devices = {device for queue in queues if (device := parse_device(check(queue)))}
    if len(devices) > 1:
        names = ", ".join(sorted(device.queue for device in devices))
        raise SettingsError(
            f"a worker runs on one device, not on {names}: start one worker for each"
        )
    return devices.pop() if devices else None
