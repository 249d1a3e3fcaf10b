"""The wire formats that this release reads and writes.

A format is the number of everything that clients and workers send to each other: the message of a
chunk and its result. It changes with either of them. A release may know several, so that clients
and workers of two releases can share a queue during an upgrade: a client writes the newest format
that all workers of the queue read, and a worker answers in the format of the message.
"""

from typing import Any

from bertq.errors import VersionMismatch

#: The newest format, and the oldest one that this release still reads and writes.
WIRE_VERSION = 3
OLDEST_WIRE_VERSION = 3


def known() -> list[int]:
    """Return the formats that this release reads and writes, in ascending order."""
    return list(range(OLDEST_WIRE_VERSION, WIRE_VERSION + 1))


def is_known(version: Any) -> bool:
    """Return whether this release reads a format."""
    return type(version) is int and OLDEST_WIRE_VERSION <= version <= WIRE_VERSION


def check(version: Any, *, sender: str, receiver: str) -> None:
    """Refuse data in a format that this release does not read, or that does not state its format.

    Args:
        version: the format that the sender states.
        sender: role of the sender, for the error message: client or worker.
        receiver: role of the receiver, which checks.

    Raises:
        VersionMismatch: the format is not known.
    """
    if is_known(version):
        return
    found = f"wire format {version}" if type(version) is int else "no known wire format"
    raise VersionMismatch(
        f"the {sender} speaks {found} and this {receiver} {describe(known())}: install the same "
        "version of bertq on both"
    )


def describe(formats: list[int]) -> str:
    """Return a list of formats in words."""
    return " and ".join(map(str, sorted(formats))) or "none"
