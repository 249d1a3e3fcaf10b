"""Times and rates, with median and range."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Spread:
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
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarize at least one value."""
        taken = tuple(map(float, values))
        return cls(statistics.median(taken), min(taken), max(taken), taken)

    def text(self, digits: int = 0) -> str:
        """Return the median with its range: ``640 (612-655)``."""
        return (
            f"{self.median:,.{digits}f} ({self.low:,.{digits}f}\N{EN DASH}{self.high:,.{digits}f})"
        )

    def document(self) -> dict[str, object]:
        """Return the summary for JSON."""
        return asdict(self)


def seconds(act: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
