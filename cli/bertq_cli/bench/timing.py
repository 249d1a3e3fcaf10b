"""Times and rates: taken in turns, told by their median and their spread."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

#: What is asked of the latency of single sentences.
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Spread:
    """Several measurements of one quantity.

    Attributes:
        median: the middle one.
        low, high: the least and the greatest.
        values: all of them, in the order in which they were taken.
    """

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise at least one value."""
        taken = tuple(map(float, values))
        return cls(statistics.median(taken), min(taken), max(taken), taken)

    def text(self, digits: int = 0) -> str:
        """Return the median with its range: ``640 (612-655)``."""
        return (
            f"{self.median:,.{digits}f} ({self.low:,.{digits}f}\N{EN DASH}{self.high:,.{digits}f})"
        )

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of at least one value, interpolated."""
    cut = np.percentile(np.asarray(values, np.float64), PERCENTILES)
    return {f"p{q}": float(value) for q, value in zip(PERCENTILES, cut, strict=True)}


def seconds(act: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def in_turns(
    acts: Mapping[str, Callable[[], float]],
    rounds: int,
    warm_up: int = 1,
    after: Callable[[], None] = lambda: None,
) -> dict[str, Spread]:
    """Measure several things in turns, so that a slow minute of the machine meets them all.

    Args:
        acts: what is measured; each call returns its measurement.
        rounds: measurements of each.
        warm_up: rounds before those, which do not count.
        after: called after each measurement.
    """
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(-warm_up, rounds):
        for name, act in acts.items():
            value = act()
            if number >= 0:
                taken[name].append(value)
            after()
    return {name: Spread.of(values) for name, values in taken.items()}
