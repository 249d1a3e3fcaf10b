"""What is measured: the four tables of the first bert-as-service, point by point."""

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

#: What holds where a table does not vary it.
BASE: Mapping[str, int] = MappingProxyType(
    {"max_seq_len": 40, "client_batch_size": 2048, "num_client": 1, "max_batch_size": 256}
)

WORKERS = (1, 2, 4)


def crew(workers: int) -> str:
    """Return a number of workers in words."""
    return f"{workers} {'worker' if workers == 1 else 'workers'}"


@dataclass(frozen=True)
class Setup:
    """A service: what its workers have to be started anew for.

    Attributes:
        workers: how many, each on a device of its own.
        max_seq_len, max_batch_size: their settings.
    """

    workers: int
    max_seq_len: int
    max_batch_size: int

    @property
    def crew(self) -> str:
        """How many workers, in words."""
        return crew(self.workers)

    def __str__(self) -> str:
        return f"{self.crew}, max_seq_len {self.max_seq_len}, max_batch_size {self.max_batch_size}"


@dataclass(frozen=True)
class Point:
    """One figure of a table.

    Attributes:
        table: what the table varies.
        value: what it is here.
        setup: the service.
        client_batch_size: sentences of a call, at most.
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
        """Whether the sentences must be as long as ``max_seq_len``, not as they come."""
        return self.table == "max_seq_len"

    def __str__(self) -> str:
        return f"{self.table} {self.value}"


def points(values: Mapping[str, Sequence[int]], workers: Sequence[int]) -> dict[Setup, list[Point]]:
    """Return what is to be measured on each service, the services in a good order.

    Args:
        values: of each table that is wanted.
        workers: how many, for each line of a table.
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


def feasible(workers: Sequence[int], devices: int, kind: str) -> tuple[list[int], list[str]]:
    """Return how many workers can be had, and why not the others.

    Args:
        workers: asked for.
        devices: of this machine.
        kind: ``cpu`` or ``gpu``.
    """
    noun = {"cpu": "core", "gpu": "GPU"}[kind] + ("" if devices == 1 else "s")
    left_out = [
        f"{crew(count)}: this machine has {devices} {noun}" for count in workers if count > devices
    ]
    return [count for count in workers if count <= devices], left_out
