"""Runs every benchmark, one after another: ``python -m benchmarks``.

Run nothing else on the machine during that time. It prints the duration of each.
"""

import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.results import RESULTS

_ROOT = Path(__file__).resolve().parents[1]
_BERTQ = "from bertq_cli.main import main; main()"

#: Arguments of each, for a full run and for a quick one.
_FULL = {
    "peers": ["--rounds", "5", "--sentences", "2048", "--singles", "200"],
    "families": ["--rounds", "3", "--sentences", "128", "--singles", "60"],
    "startup": ["--rounds", "5"],
    "overhead": ["--rounds", "5", "--sentences", "2048"],
    "latency": ["--singles", "200", "--rounds", "3", "--seconds", "3", "--bulk", "20000"],
    "gateway": ["--rounds", "5", "--seconds", "60"],
    "routes": ["--rounds", "12", "--seconds", "3"],
    "messages": ["--rounds", "5", "--seconds", "2"],
    "clients": ["--seconds", "15"],
    "ceiling": ["--rounds", "3", "--seconds", "2"],
    "bench": ["--cpu", "--workers", "1,2", "--rounds", "3", "--seconds", "1"],
}
_QUICK = {
    "peers": ["--rounds", "3", "--sentences", "64", "--singles", "6"],
    "families": ["--rounds", "3", "--sentences", "16", "--singles", "6", "--shape", "BERT-base"],
    "startup": ["--rounds", "1"],
    "overhead": ["--rounds", "1", "--sentences", "128"],
    "latency": ["--singles", "10", "--rounds", "1", "--seconds", "0.3", "--bulk", "512"],
    "gateway": ["--rounds", "1", "--seconds", "1", "--callers", "8"],
    "routes": ["--rounds", "1", "--seconds", "0.5"],
    "messages": ["--rounds", "1", "--seconds", "0.5"],
    "clients": ["--clients", "5", "--seconds", "0.5"],
    "ceiling": ["--workers", "1", "--rounds", "1", "--seconds", "0.3", "--call", "512"],
    "bench": ["--cpu", "--workers", "1", "--rounds", "1", "--seconds", "0.2", "--max-seq-len",
              "40", "--client-batch-size", "1,64", "--num-client", "1,2", "--max-batch-size",
              "256"],
}  # fmt: skip


@click.command()
@click.option("--peers-python", default=sys.executable, metavar="PATH", show_default=True,
              help="Interpreter with the packages of the extra 'peers'.")  # fmt: skip
@click.option("--only", type=click.Choice(list(_FULL)), multiple=True, help="Leave others out.")
@click.option(
    "--quick", is_flag=True, help="Only check that all of them work; the figures mean nothing."
)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(peers_python: str, only: tuple[str, ...], quick: bool, output: Path) -> None:
    """Run every benchmark, one after another."""
    failed = []
    for name, arguments in (_QUICK if quick else _FULL).items():
        if only and name not in only:
            continue
        program = [sys.executable, "-c", _BERTQ] if name == "bench" else [
            sys.executable, "-m", f"benchmarks.{name}"]  # fmt: skip
        command = [*program, *(["bench"] if name == "bench" else []), *arguments]
        command += ["--output", str(output.absolute())]
        if name in ("peers", "families"):
            command += ["--peers-python", peers_python]
        click.echo(f"== {name}: {' '.join(arguments)}", err=True)
        start = time.perf_counter()
        if subprocess.run(command, cwd=_ROOT).returncode:
            failed.append(name)
        click.echo(f"== {name}: {time.perf_counter() - start:.0f} s", err=True)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
