"""The cost of a request: rates, times and processor time of a period."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.client_process import TimedAnswer
from benchmarks.measuring import percentiles_ms

#: The processes whose processor time is measured.
ROLES = ("worker", "client", "redis")


@dataclass(frozen=True)
class Reading:
    """Counters at one moment.

    Attributes:
        at_seconds: on the monotonic clock.
        cpu_seconds: processor time of all processes of each role since their start.
        commands: number of commands that Redis has run, those of scripts included.
    """

    at_seconds: float
    cpu_seconds: Mapping[str, float]
    commands: int


@dataclass(frozen=True)
class Cost:
    """The cost of the requests of a period.

    Attributes:
        answers: number of answers.
        rate: answers per second.
        p50_ms, p99_ms: percentiles of the time from a request to its answer.
        cpu_ms: processor time per request, by role.
        commands: commands of Redis per request.
    """

    answers: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: Mapping[str, float]
    commands: float

    @classmethod
    def from_readings(cls, first: Reading, last: Reading, answers: Sequence[TimedAnswer]) -> "Cost":
        """Return the cost of the requests that were answered between two readings.

        Args:
            first, last: the readings.
            answers: all answers, also earlier and later ones.

        Raises:
            ValueError: nothing was answered in that time.
        """
        waits = [seconds for at, seconds in answers if first.at_seconds < at <= last.at_seconds]
        if not waits:
            raise ValueError("no request was answered: give more --seconds")
        times = percentiles_ms(waits)
        return cls(
            len(waits),
            len(waits) / (last.at_seconds - first.at_seconds),
            times["p50"],
            times["p99"],
            {
                role: 1000 * (last.cpu_seconds[role] - first.cpu_seconds[role]) / len(waits)
                for role in ROLES
            },
            (last.commands - first.commands) / len(waits),
        )
