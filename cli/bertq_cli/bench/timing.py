"""Times and rates, with median and range."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class MedianRange:
    """Several measurements of one quantity.

    Attributes:
        median: the median of the values.
        low, high: the lowest and the highest value.
        values: all values, in the order of the measurements.
    """

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def from_values(cls, values: Sequence[float]) -> "MedianRange":
        """Summarize at least one value."""
        floats = tuple(map(float, values))
        return cls(statistics.median(floats), min(floats), max(floats), floats)

    def text(self, digits: int = 0) -> str:
        """Return the median with its range: ``640 (612-655)``."""
        return (
            f"{self.median:,.{digits}f} ({self.low:,.{digits}f}\N{EN DASH}{self.high:,.{digits}f})"
        )

    def document(self) -> dict[str, object]:
        """Return the summary for JSON."""
        return asdict(self)


def measure_seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
