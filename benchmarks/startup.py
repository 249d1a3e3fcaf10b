"""Measures the start of a worker by its steps: ``python -m benchmarks.startup``.

A worker of Celery starts with a real model, and ends once it is ready; ``--baseline`` starts one of
another checkout in turns with it. The steps are those that the worker logs.
"""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks.measuring import cpu_seconds
from benchmarks.messages.system import Variant
from benchmarks.results import RESULTS, describe_context, write_results
from benchmarks.soak import processes
from benchmarks.soak.redis_server import RedisServer
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.timing import MedianRange
from bertq_cli.models import packaged

#: Each step, and the part of the line that the worker logs at its end.
_STEPS = {
    "Python, Celery and bertq": "loading: reading the model",
    "reading the model": "loading: starting TensorFlow",
    "TensorFlow": "loading: building the graph",
    "building the graph": "loading: warming up, 1 of",
    "warming up": "; ready after",
    "connecting": " ready.",
}
_IN_ALL = "in all"
_TIME = re.compile(r"^\[([\d-]+ [\d:]+,\d+): ")

_START_SECONDS, _END_SECONDS, _POLL_SECONDS = 120.0, 30.0, 0.02
_TAIL_LINES = 5


@dataclass(frozen=True)
class Start:
    """One start of a worker.

    Attributes:
        seconds: duration of each step, and of all.
        cpu_seconds: processor time until the worker is ready.
        mib: resident memory when it is ready.
    """

    seconds: Mapping[str, float]
    cpu_seconds: float
    mib: float


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option("--model-dir", type=click.Path(path_type=Path), help="Instead of the demo's model.")
@click.option("--baseline", type=click.Path(path_type=Path, exists=True),
              help="Another checkout of bertq, which takes turns too.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    rounds: int, dtype: str, model_dir: Path | None, baseline: Path | None, output: Path
) -> None:
    """Measure the start of a worker."""
    directory = model_dir or packaged.DEMO.fetch()
    context = describe_context(directory)
    variants = [Variant("bertq")]
    if baseline is not None:
        variants.append(Variant(f"bertq, {baseline.name}", checkout=baseline.resolve()))
    options = {"BERTQ_MODEL_DIR": str(directory.absolute()), "BERTQ_DTYPE": dtype}
    starts: dict[str, list[Start]] = {variant.name: [] for variant in variants}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bertq-startup-")))
        server = RedisServer(folder, stack.enter_context((folder / "redis-log").open("w+b")))
        stack.callback(server.stop)
        server.start()
        for number in range(-1, rounds):
            for variant in variants:
                environ = {**variant.environ(server.url), **options, "BERTQ_LOG_LOADING": "1"}
                start = measure_start(environ, folder / "log")
                click.echo(f"{variant.name}: {start.seconds[_IN_ALL]:.1f} s", err=True)
                if number >= 0:
                    starts[variant.name].append(start)
    facts = {**context, "settings": f"{dtype}, {rounds} rounds in turns, and one before them"}
    write_results(build_document(starts, facts), output, "startup")


def measure_start(environ: Mapping[str, str], log: Path) -> Start:
    """Start a worker, wait until it is ready, and end it.

    Raises:
        ClickException: the worker ended, or is not ready in time.
    """
    command = [sys.executable, "-m", "celery", "-A", "bertq", "worker", "-Q", "cpu0", "-l", "INFO"]
    with log.open("w+b") as file:
        started = time.time()
        process = processes.start_process(command, environ, file)
        try:
            while " ready." not in (text := log.read_text(errors="replace")):
                if process.poll() is not None or time.time() - started > _START_SECONDS:
                    tail = "\n".join(text.strip().splitlines()[-_TAIL_LINES:])
                    raise click.ClickException(f"the worker is not ready:\n{tail}")
                time.sleep(_POLL_SECONDS)
            used = cpu_seconds([process.pid])
            mib = processes.resident_bytes(process.pid) / 2**20
        finally:
            processes.end_process(process, _END_SECONDS)
    return Start(parse_steps(text, started), used, mib)


def parse_steps(log: str, started: float) -> dict[str, float]:
    """Return the seconds of each step, and of all, from the times in a worker's log.

    Args:
        log: the lines until the worker is ready.
        started: the Unix time at which the process was started.
    """
    seconds = {}
    last = started
    for name, text in _STEPS.items():
        line = next(line for line in log.splitlines() if text in line)
        found = _TIME.match(line)
        assert found is not None  # each line of the log begins with its time
        end = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
        seconds[name] = end - last
        last = end
    return {**seconds, _IN_ALL: last - started}


def build_document(starts: Mapping[str, Sequence[Start]], facts: Mapping[str, str]) -> Document:
    """Return the page: a column for each checkout."""
    rows = [
        [step, *(_summarize([start.seconds[step] for start in found]) for found in starts.values())]
        for step in (*_STEPS, _IN_ALL)
    ]
    rows.append([
        "processor time",
        *(_summarize([start.cpu_seconds for start in found]) for found in starts.values()),
    ])  # fmt: skip
    rows.append([
        "resident memory, MiB",
        *(_summarize([start.mib for start in found], 0) for found in starts.values()),
    ])  # fmt: skip
    note = "Seconds; medians (lowest\N{EN DASH}highest)."
    table = Table("Steps of the start", ["", *starts], rows, note)
    data = {name: [vars(start) for start in found] for name, found in starts.items()}
    return Document("How long a worker takes to start", facts, [table], {"starts": data})


def _summarize(values: Sequence[float], digits: int = 2) -> str:
    return MedianRange.from_values(values).text(digits)


if __name__ == "__main__":
    main()
