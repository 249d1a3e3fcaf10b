"""What is done to the service, and when: from a seed, so that a run can be had again."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: How a worker is ended, and how often out of a hundred times.
WAYS = {"SIGKILL": 80, "SIGTERM": 12, "SIGINT twice": 8}


@dataclass(frozen=True, order=True)
class Event:
    """Something that is done once.

    Attributes:
        moment: seconds after the start.
        kind: ``kill`` a worker, ``restart`` or ``wipe`` Redis, ``client``: kill a client.
        way: how, a key of ``WAYS``; of a restart and a wipe ``SIGKILL`` or ``SIGTERM``.
    """

    moment: float
    kind: str
    way: str


def events(
    seconds: float, seed: int, kills: int, restarts: int, wipes: int, client_kills: int
) -> list[Event]:
    """Return what is done, in order: each kind spread evenly, but for a jitter."""
    chance = random.Random(seed)
    found = [
        Event(moment, "kill", chance.choices(list(WAYS), list(WAYS.values()))[0])
        for moment in _spread(chance, seconds, kills)
    ]
    kinds = ["restart"] * restarts + ["wipe"] * wipes
    chance.shuffle(kinds)
    found += [
        Event(moment, kind, chance.choice(["SIGKILL", "SIGTERM"]))
        for moment, kind in zip(_spread(chance, seconds, len(kinds)), kinds, strict=True)
    ]
    found += [
        Event(moment, "client", "SIGKILL") for moment in _spread(chance, seconds, client_kills)
    ]
    return sorted(found)


def _spread(chance: random.Random, seconds: float, count: int) -> Sequence[float]:
    """Return moments: one somewhere in each of ``count`` equal parts of the time."""
    part = seconds / max(count, 1)
    return [part * (number + chance.uniform(0.05, 0.95)) for number in range(count)]
