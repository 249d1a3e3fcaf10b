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
from bertq_cli.bench.stage import Stage, in_thread, workers
from bertq_cli.bench.timing import Spread
from bertq_cli.service.supervisor import Say

#: Sentences of the first call, for each worker: enough to estimate its speed.
_TRIAL = 64


class Watcher(Protocol):
    """An observer of a campaign's progress."""

    def doing(self, what: str) -> None:
        """Report the start of an activity."""

    def step(self) -> None:
        """Report the end of a round, or that a service has started."""


@dataclass(frozen=True)
class Figure:
    """The result for a point.

    Attributes:
        point: the point.
        batch: sentences of a call; fewer than ``client_batch_size`` if that took too long.
        calls: calls of each client in a round.
        total: sentences/s of all clients together.
        each: sentences/s of one client.
    """

    point: Point
    batch: int
    calls: int
    total: Spread
    each: Spread

    def document(self) -> dict[str, object]:
        """Return the figure for JSON."""
        return {
            "table": self.point.table,
            "value": self.point.value,
            **asdict(self.point.setup),
            "num_client": self.point.num_client,
            "sentences_per_call": self.batch,
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
        watcher: gets reports of the progress.
        say: gets messages of the services.
        figures: the results so far.
        worker: worker info of one worker, which describes the model and the device.
    """

    planned: Mapping[Setup, Sequence[Point]]
    model_dir: Path
    kind: str
    variables: Mapping[str, str]
    rounds: int
    seconds: float
    watcher: Watcher
    say: Say
    figures: list[Figure] = field(default_factory=list, init=False)
    worker: worker_info.WorkerInfo | None = field(default=None, init=False)

    @property
    def steps(self) -> int:
        """Number of steps that the watcher will get."""
        return sum(1 + len(points) * (1 + self.rounds) for points in self.planned.values())

    async def run(self, stage: Stage) -> None:
        """Measure all points."""
        for setup, points in self.planned.items():
            variables = {
                **self.variables,
                "BERTQ_MODEL_DIR": str(self.model_dir),
                "BERTQ_MAX_SEQ_LEN": str(setup.max_seq_len),
                "BERTQ_MAX_BATCH_SIZE": str(setup.max_batch_size),
            }
            service = workers(stage.next_url(), self.kind, setup.workers, variables)
            self.watcher.doing(f"starting {setup}")
            await stage.play(service, self.say, partial(self._measure, service.url, points))

    async def _measure(self, url: str, points: Sequence[Point]) -> None:
        self.watcher.step()
        with connect(url) as redis:
            self.worker = worker_info.read(redis)[0]
        with ExitStack() as stack:
            sessions = []
            for point in points:
                self.watcher.doing(f"{point.setup.crew}, {point}: trying")
                session = ServiceRun(point, url, self._texts(point), self.seconds)
                stack.callback(session.crowd.close)
                await in_thread(session.try_out, session.crowd.close)
                self.watcher.step()
                sessions.append(session)
            for number in range(self.rounds):
                for session in sessions:
                    what = f"{session.point.setup.crew}, {session.point}"
                    self.watcher.doing(f"{what}: round {number + 1} of {self.rounds}")
                    await in_thread(session.measure, session.crowd.close)
                    self.watcher.step()
        self.figures += [session.figure() for session in sessions]

    def _texts(self, point: Point) -> list[str]:
        number = max(len(corpus.clauses()), point.client_batch_size)
        if point.is_filled:
            count = corpus.counter(self.model_dir)
            return corpus.filled(point.setup.max_seq_len, number, count)
        return corpus.distinct(number)


class ServiceRun:
    """The measurements of one point."""

    def __init__(self, point: Point, url: str, texts: Sequence[str], seconds: float) -> None:
        self.point = point
        self.crowd = ConcurrentClients(url, point.num_client)
        self.batch = point.client_batch_size
        self.calls = 1
        self._texts = texts
        self._seconds = seconds
        self._rates: list[Rates] = []

    def try_out(self) -> None:
        """Warm the service up, and find the sentences and calls that fill one measurement."""
        trial = min(self.batch, max(1, _TRIAL * self.point.setup.workers // self.point.num_client))
        self.crowd.round(self._texts, trial, 1)
        enough = self._seconds * self.crowd.round(self._texts, trial, 2).total
        share = enough / self.point.num_client
        if not self.point.is_exact:
            self.batch = fitting(self.batch, share)
        self.calls = max(1, round(share / self.batch))

    def measure(self) -> None:
        """Take one measurement."""
        self._rates.append(self.crowd.round(self._texts, self.batch, self.calls))

    def figure(self) -> Figure:
        """Summarize the measurements."""
        total = Spread.of([rates.total for rates in self._rates])
        each = Spread.of([rates.each for rates in self._rates])
        return Figure(self.point, self.batch, self.calls, total, each)


def fitting(most: int, share: float) -> int:
    """Return the sentences of a call: ``most``, or a power of two up to ``share``.

    At least 16, because smaller calls would be small requests, which workers treat differently.
    """
    if share >= most:
        return most
    return min(most, max(16, 1 << max(0, int(share).bit_length() - 1)))
