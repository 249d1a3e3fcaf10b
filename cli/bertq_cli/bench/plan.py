"""Plan of the measurements: the four tables of the first bert-as-service, point by point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

#: The values of each table.
TABLES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "max_seq_len": (20, 40, 80, 160, 320),
        "client_batch_size": (1, 4, 8, 16, 64, 256, 512, 1024, 2048, 4096),
        "num_client": (1, 2, 4, 8, 16, 32),
        "max_batch_size": (32, 64, 128, 256, 512),
    }
)

#: The values that apply if a table does not vary them.
BASE: Mapping[str, int] = MappingProxyType(
    {"max_seq_len": 40, "client_batch_size": 2048, "num_client": 1, "max_batch_size": 256}
)

WORKERS = (1, 2, 4)


def format_workers(workers: int) -> str:
    """Return a number of workers as text."""
    return f"{workers} {'worker' if workers == 1 else 'workers'}"


@dataclass(frozen=True)
class Setup:
    """The configuration of a service; another one requires new workers.

    Attributes:
        workers: number of workers, each on its own device.
        max_seq_len, max_batch_size: their settings.
    """

    workers: int
    max_seq_len: int
    max_batch_size: int

    @property
    def workers_text(self) -> str:
        """The number of workers as text."""
        return format_workers(self.workers)

    def __str__(self) -> str:
        return (
            f"{self.workers_text}, max_seq_len {self.max_seq_len}, "
            f"max_batch_size {self.max_batch_size}"
        )


@dataclass(frozen=True)
class Point:
    """One figure of a table.

    Attributes:
        table: the name of the varied setting.
        value: its value at this point.
        setup: the service.
        client_batch_size: maximum sentences of a call.
        num_client: clients that send at the same time.
    """

    table: str
    value: int
    setup: Setup
    client_batch_size: int
    num_client: int

    @property
    def is_exact(self) -> bool:
        """Whether a call must have so many sentences, however long it takes."""
        return self.table == "client_batch_size"

    @property
    def is_filled(self) -> bool:
        """Whether each sentence must fill ``max_seq_len``; otherwise its length is unchanged."""
        return self.table == "max_seq_len"

    def __str__(self) -> str:
        return f"{self.table} {self.value}"


def points(values: Mapping[str, Sequence[int]], workers: Sequence[int]) -> dict[Setup, list[Point]]:
    """Return the points to measure on each service, in the order of measurement.

    Args:
        values: the values of each requested table.
        workers: the numbers of workers, each a line in every table.
    """
    planned: dict[Setup, list[Point]] = {}
    for count in workers:
        for table, chosen in values.items():
            for value in chosen:
                fixed = {**BASE, table: value}
                setup = Setup(count, fixed["max_seq_len"], fixed["max_batch_size"])
                point = Point(table, value, setup, fixed["client_batch_size"], fixed["num_client"])
                planned.setdefault(setup, []).append(point)
    return planned


def select_feasible(
    workers: Sequence[int], devices: int, device_kind: str
) -> tuple[list[int], list[str]]:
    """Return the numbers of workers that the machine allows, and reasons for omitting the others.

    Args:
        workers: the requested numbers.
        devices: number of devices of this machine.
        kind: ``cpu`` or ``gpu``.
    """
    noun = {"cpu": "core", "gpu": "GPU"}[device_kind] + ("" if devices == 1 else "s")
    left_out = [
        f"{format_workers(count)}: this machine has {devices} {noun}"
        for count in workers
        if count > devices
    ]
    return [count for count in workers if count <= devices], left_out
