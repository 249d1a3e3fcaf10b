"""Things that are measured in turns, and what is told of many values."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bertq_cli.bench.timing import MedianRange

#: What is asked of the latency of single sentences.
PERCENTILES = (50, 95, 99)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of at least one value, interpolated."""
    cut = np.percentile(np.asarray(values, np.float64), PERCENTILES)
    return {f"p{q}": float(value) for q, value in zip(PERCENTILES, cut, strict=True)}


def in_turns(
    acts: Mapping[str, Callable[[], float]],
    rounds: int,
    warm_up: int = 1,
    after: Callable[[], None] = lambda: None,
) -> dict[str, MedianRange]:
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
    return {name: MedianRange.from_values(values) for name, values in taken.items()}
