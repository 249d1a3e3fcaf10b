"""The faults of a run and their times, from a seed, so that a run can be repeated."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: How a worker is ended, and how often out of a hundred times.
SIGNAL_WEIGHTS = {"SIGKILL": 80, "SIGTERM": 12, "SIGINT twice": 8}


@dataclass(frozen=True, order=True)
class Event:
    """A fault to inject.

    Attributes:
        at_seconds: time after the start.
        action: ``kill`` a worker, ``restart`` or ``wipe`` Redis, ``client``: kill a client,
            ``failover``: kill or freeze the primary.
        signal_name: a key of ``SIGNAL_WEIGHTS``; for Redis ``SIGKILL`` or ``SIGTERM``; for a
            failover ``SIGKILL`` or ``SIGSTOP``.
    """

    at_seconds: float
    action: str
    signal_name: str


def plan_events(
    seconds: float,
    seed: int,
    kills: int,
    restarts: int,
    wipes: int,
    client_kills: int,
    failovers: int = 0,
) -> list[Event]:
    """Return the faults to inject, in order: each kind spread evenly, with a jitter."""
    generator = random.Random(seed)
    weights = list(SIGNAL_WEIGHTS.values())
    events = [
        Event(at_seconds, "kill", generator.choices(list(SIGNAL_WEIGHTS), weights)[0])
        for at_seconds in _spread(generator, seconds, kills)
    ]
    actions = ["restart"] * restarts + ["wipe"] * wipes
    generator.shuffle(actions)
    times = _spread(generator, seconds, len(actions))
    events += [
        Event(at_seconds, action, generator.choice(["SIGKILL", "SIGTERM"]))
        for at_seconds, action in zip(times, actions, strict=True)
    ]
    times = _spread(generator, seconds, client_kills)
    events += [Event(at_seconds, "client", "SIGKILL") for at_seconds in times]
    events += [
        Event(at_seconds, "failover", generator.choice(["SIGKILL", "SIGSTOP"]))
        for at_seconds in _spread(generator, seconds, failovers)
    ]
    return sorted(events)


def _spread(generator: random.Random, seconds: float, count: int) -> Sequence[float]:
    """Return random times, one in each of ``count`` equal intervals."""
    interval = seconds / max(count, 1)
    return [interval * (number + generator.uniform(0.05, 0.95)) for number in range(count)]
