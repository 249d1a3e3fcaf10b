"""Campaign of measurements: one service after another, with the points of each in turns."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from bertq.redis.connection import connect
from bertq.state import worker_info
from bertq_cli.bench import corpus
from bertq_cli.bench.plan import Point, Setup
from bertq_cli.bench.senders import ConcurrentClients, Rates
from bertq_cli.bench.services import TemporaryRedis, run_in_thread, workers
from bertq_cli.bench.timing import MedianRange
from bertq_cli.service.supervisor import Report

#: Sentences of the first call, for each worker: enough to estimate its speed.
_CALIBRATION_SENTENCES = 64


class ProgressObserver(Protocol):
    """An observer of a campaign's progress."""

    def start_activity(self, activity: str) -> None:
        """Report the start of an activity."""

    def step(self) -> None:
        """Report the end of a round, or that a service has started."""


@dataclass(frozen=True)
class Measurement:
    """The result for a point.

    Attributes:
        point: the point.
        call_size: sentences of a call; fewer than ``client_batch_size`` if that took too long.
        calls: calls of each client in a round.
        total: sentences/s of all clients together.
        each: sentences/s of one client.
    """

    point: Point
    call_size: int
    calls: int
    total: MedianRange
    each: MedianRange

    def document(self) -> dict[str, object]:
        """Return the figure for JSON."""
        return {
            "table": self.point.table,
            "value": self.point.value,
            **asdict(self.point.setup),
            "num_client": self.point.num_client,
            "sentences_per_call": self.call_size,
            "calls": self.calls,
            "filled": self.point.is_filled,
            "sentences_per_second": self.total.document(),
            "each_client": self.each.document(),
        }


@dataclass
class Campaign:
    """A run of measurements.

    Attributes:
        planned: services and their points.
        model_dir: the model.
        kind: ``cpu`` or ``gpu``.
        variables: further settings of the workers, ``BERTQ_*``.
        rounds: measurements of each point.
        seconds: intended duration of a measurement.
        observer: gets reports of the progress.
        report: gets messages of the services.
        measurements: the results so far.
        worker: worker info of one worker, which describes the model and the device.
    """

    planned: Mapping[Setup, Sequence[Point]]
    model_dir: Path
    device_kind: str
    variables: Mapping[str, str]
    rounds: int
    seconds: float
    observer: ProgressObserver
    report: Report
    measurements: list[Measurement] = field(default_factory=list, init=False)
    worker: worker_info.WorkerInfo | None = field(default=None, init=False)

    @property
    def steps(self) -> int:
        """Number of steps that the watcher will get."""
        return sum(1 + len(points) * (1 + self.rounds) for points in self.planned.values())

    async def run(self, redis: TemporaryRedis) -> None:
        """Measure all points."""
        for setup, points in self.planned.items():
            variables = {
                **self.variables,
                "BERTQ_MODEL_DIR": str(self.model_dir),
                "BERTQ_MAX_SEQ_LEN": str(setup.max_seq_len),
                "BERTQ_MAX_BATCH_SIZE": str(setup.max_batch_size),
            }
            service = workers(redis.next_url(), self.device_kind, setup.workers, variables)
            self.observer.start_activity(f"starting {setup}")
            await redis.run_service(
                service, self.report, partial(self._measure, service.url, points)
            )

    async def _measure(self, url: str, points: Sequence[Point]) -> None:
        self.observer.step()
        with connect(url) as redis:
            self.worker = worker_info.read(redis)[0]
        with ExitStack() as stack:
            runs = []
            for point in points:
                self.observer.start_activity(f"{point.setup.workers_text}, {point}: trying")
                run = PointRun(point, url, self._texts(point), self.seconds)
                stack.callback(run.clients.close)
                await run_in_thread(run.calibrate, run.clients.close)
                self.observer.step()
                runs.append(run)
            for number in range(self.rounds):
                for run in runs:
                    activity = f"{run.point.setup.workers_text}, {run.point}"
                    self.observer.start_activity(f"{activity}: round {number + 1} of {self.rounds}")
                    await run_in_thread(run.measure, run.clients.close)
                    self.observer.step()
        self.measurements += [run.measurement() for run in runs]

    def _texts(self, point: Point) -> list[str]:
        number = max(len(corpus.clauses()), point.client_batch_size)
        if point.is_filled:
            count = corpus.token_counter(self.model_dir)
            return corpus.make_filled(point.setup.max_seq_len, number, count)
        return corpus.make_distinct(number)


class PointRun:
    """The measurements of one point."""

    def __init__(self, point: Point, url: str, texts: Sequence[str], seconds: float) -> None:
        self.point = point
        self.clients = ConcurrentClients(url, point.num_client)
        self.call_size = point.client_batch_size
        self.calls = 1
        self._texts = texts
        self._seconds = seconds
        self._rates: list[Rates] = []

    def calibrate(self) -> None:
        """Warm the service up, and find the sentences and calls that fill one measurement."""
        trial_size = min(
            self.call_size,
            max(1, _CALIBRATION_SENTENCES * self.point.setup.workers // self.point.num_client),
        )
        self.clients.round(self._texts, trial_size, 1)
        total_sentences = self._seconds * self.clients.round(self._texts, trial_size, 2).total
        sentences = total_sentences / self.point.num_client
        if not self.point.is_exact:
            self.call_size = choose_call_size(self.call_size, sentences)
        self.calls = max(1, round(sentences / self.call_size))

    def measure(self) -> None:
        """Take one measurement."""
        self._rates.append(self.clients.round(self._texts, self.call_size, self.calls))

    def measurement(self) -> Measurement:
        """Summarize the measurements."""
        total = MedianRange.from_values([rates.total for rates in self._rates])
        each = MedianRange.from_values([rates.each for rates in self._rates])
        return Measurement(self.point, self.call_size, self.calls, total, each)


def choose_call_size(max_size: int, sentences: float) -> int:
    """Return the sentences of a call: ``max_size``, or a power of two up to ``sentences``.

    At least 16, because smaller calls would be small requests, which workers treat differently.
    """
    if sentences >= max_size:
        return max_size
    return min(max_size, max(16, 1 << max(0, int(sentences).bit_length() - 1)))
