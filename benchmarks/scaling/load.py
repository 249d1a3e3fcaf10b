"""Arrivals: when requests come, and how many sentences they have."""

import random
from dataclasses import dataclass

#: Kinds of requests: one sentence, an interactive request of many, a bulk of any size.
SINGLE, MEDIUM, BULK = "single", "medium", "bulk"

#: Sentences of a medium request.
MEDIUM_SENTENCES = 2_000


@dataclass(frozen=True)
class Arrival:
    """A request.

    Attributes:
        at_seconds: when it comes.
        kind: one of the kinds.
        sentences: its size.
    """

    at_seconds: float
    kind: str
    sentences: int


def bursts(seed: int = 0) -> list[Arrival]:
    """Return three hours: bursts of three sizes, and a plateau, above steady online traffic.

    For workers of 500 sentences a second: bursts of 1, 10 and 40 minutes of one worker, twice each,
    and half an hour in which eight workers have 90 % of the work that they can do.
    """
    bulk = [
        (600.0, 30_000), (1200.0, 300_000), (2400.0, 1_200_000),
        (5400.0, 30_000), (5700.0, 300_000), (6600.0, 1_200_000),
    ]  # fmt: skip
    found = [Arrival(at, BULK, sentences) for at, sentences in bulk]
    found += [Arrival(8400.0 + 5 * number, BULK, 18_000) for number in range(360)]
    found += _steady(seed, SINGLE, 1, 10_800.0, 20.0)
    found += _steady(seed, MEDIUM, MEDIUM_SENTENCES, 10_800.0, 1 / 20)
    return sorted(found, key=lambda arrival: arrival.at_seconds)


def check_load(sentences: int, seconds: float, seed: int = 0) -> list[Arrival]:
    """Return a burst above online traffic, short enough to be sent to real workers."""
    found = [Arrival(1.0, BULK, sentences)]
    found += _steady(seed, SINGLE, 1, seconds, 20.0)
    found += _steady(seed, MEDIUM, MEDIUM_SENTENCES, seconds, 1 / 3)
    return sorted(found, key=lambda arrival: arrival.at_seconds)


def _steady(seed: int, kind: str, sentences: int, seconds: float, rate: float) -> list[Arrival]:
    """Return requests that come at random, ``rate`` a second on average."""
    chosen, at, found = random.Random(f"{kind} {seed}"), 0.0, []
    while (at := at + chosen.expovariate(rate)) < seconds:
        found.append(Arrival(at, kind, sentences))
    return found
