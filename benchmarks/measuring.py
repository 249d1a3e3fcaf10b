"""Measurements in turns, percentiles, rates and processor time."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.client_process import TimedAnswer
from bertq_cli.bench.timing import MedianRange

#: Percentiles of the latency of single sentences.
PERCENTILES = (50, 95, 99)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of at least one value, interpolated."""
    quantiles = np.percentile(np.asarray(values, np.float64), PERCENTILES)
    return {f"p{q}": float(value) for q, value in zip(PERCENTILES, quantiles, strict=True)}


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of at least one duration, in milliseconds."""
    return {name: 1000 * value for name, value in percentiles(seconds).items()}


def answers_per_second(answers: Sequence[TimedAnswer], begin: float) -> float:
    """Return the rate of answers from ``begin`` until the last answer."""
    last = max(at_seconds for at_seconds, _ in answers)
    return len(answers) / (last - begin)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time of processes since their start, of all together; Linux only."""
    ticks = 0
    for pid in pids:
        # The name, in parentheses, may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_in_turns(
    measurements: Mapping[str, Callable[[], float]],
    rounds: int,
    warm_up: int = 1,
    pause: Callable[[], None] = lambda: None,
) -> dict[str, MedianRange]:
    """Measure several things in turns, so that a slow minute of the machine affects all of them.

    Args:
        measurements: functions that measure once and return the value.
        rounds: measurements of each.
        warm_up: rounds before that, which do not count.
        pause: called after each measurement.
    """
    values_by_name: dict[str, list[float]] = {name: [] for name in measurements}
    for number in range(-warm_up, rounds):
        for name, measure in measurements.items():
            value = measure()
            if number >= 0:
                values_by_name[name].append(value)
            pause()
    return {name: MedianRange.from_values(values) for name, values in values_by_name.items()}
