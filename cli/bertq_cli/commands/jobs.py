"""``bertq jobs`` and ``bertq job``: list, show, fetch and cancel durable jobs."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bertq.errors import BadInputValue, BertqError, OutputError, UnknownJob
from bertq.redis import redis_url
from bertq.state.durable_jobs import JobInfo
from bertq_cli import output_file
from bertq_cli.commands.status import duration
from bertq_cli.paths import NamedPath
from bertq_cli.redis_option import redis_option
from bertq_cli.signals import exit_on_signals
from bertq_client import BertClient, DurableJob, SparseRows, progress_bar

#: Minimum digits of a shortened id.
_MIN_DIGITS = 8

#: Maximum number of ids in an error.
_MAX_CANDIDATES = 5

#: Columns of a table that is not printed on a terminal.
_MAX_WIDTH = 200

#: Seconds between two queries of a watched job.
_POLL_SECONDS = 0.5

_redis_option = redis_option("The Redis that has the jobs.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@_redis_option
@_json_option
def jobs(url: str, as_json: bool) -> None:
    """List the durable jobs, the oldest first.

    A narrow terminal shows the beginnings of their ids, which every command accepts.
    """
    with BertClient(redis_url=url) as client:
        found = client.jobs()
    if as_json:
        click.echo(json.dumps([asdict(info) for info in found], indent=2))
    elif found:
        console = Console(highlight=False)
        shown = table(found, [info.id for info in found])
        options = console.options.update(max_width=_MAX_WIDTH)
        if console.is_terminal and console.measure(shown, options=options).maximum > console.width:
            shown = table(found, shorten([info.id for info in found]))
        # A file or another program gets whole lines, whatever the width of the terminal.
        console.print(shown, width=None if console.is_terminal else _MAX_WIDTH)
    else:
        click.echo(f"no durable job at {redis_url.redact(url)}")


@click.command()
@click.argument("job_id", metavar="ID")
@_redis_option
@_json_option
@click.option("--watch", is_flag=True, help="Show its progress until it is finished.")
@click.option("--cancel", is_flag=True, help="Cancel it, and remove its texts and rows.")
@click.option("--discard", is_flag=True, help="Remove all of it from Redis, finished or not.")
@click.option(
    "-o",
    "--output",
    type=NamedPath(dir_okay=False),
    help="Wait for its vectors and write them to this file, .npy; sparse rows as .npz.",
)
@click.option("--overwrite", is_flag=True, help="Let -o replace a file.")
def job(
    job_id: str,
    url: str,
    as_json: bool,
    watch: bool,
    cancel: bool,
    discard: bool,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Show a durable job, wait for it, fetch its vectors, or end it.

    ID is a job's id, or its first digits if no other job's id begins with them. The exit status is
    1 if the job has failed or was cancelled.
    """
    if sum((watch, cancel, discard, output is not None)) > 1:
        raise click.UsageError(
            "--watch, --cancel, --discard and -o cannot be combined: use one of them"
        )
    if output is not None:
        check(output, overwrite=overwrite)
    with exit_on_signals(), BertClient(redis_url=url) as client:
        found = find(client, url, job_id)
        if cancel:
            click.echo("cancelled" if found.cancel() else f"not cancelled: it is {found.status}")
            return
        if discard:
            found.discard()
            click.echo("discarded")
            return
        if watch:
            follow(found)
        elif output is not None:
            shape, dtype = save(found, output)
            click.echo(f"{output}: {' x '.join(map(str, shape))}, {dtype}")
            return
        info = found.info
    click.echo(json.dumps(asdict(info), indent=2) if as_json else describe(info))
    if info.status in ("failed", "cancelled"):
        raise SystemExit(1)


def find(client: BertClient, url: str, prefix: str) -> DurableJob:
    """Return the job whose id is ``prefix`` or begins with it.

    Raises:
        BadInputValue: several ids begin with it.
        UnknownJob: no id does.
    """
    ids = [info.id for info in client.jobs() if prefix and info.id.startswith(prefix.lower())]
    if len(ids) > 1 and prefix not in ids:
        listed = ", ".join(ids[:_MAX_CANDIDATES]) + (", ..." if len(ids) > _MAX_CANDIDATES else "")
        raise BadInputValue(f"{len(ids)} jobs have an id that begins with {prefix}: {listed}")
    if not ids:
        raise UnknownJob(
            f"there is no durable job {prefix} at {redis_url.redact(url)}: it has expired or was "
            "discarded, or the id is wrong; bertq jobs lists all ids"
        )
    return client.job(prefix if prefix in ids else ids[0])


def shorten(ids: Sequence[str]) -> list[str]:
    """Return the shortest beginnings of ids that are all different, of the same length."""
    length = next(
        length
        for length in range(_MIN_DIGITS, max(map(len, ids)) + _MIN_DIGITS)
        if len({one[:length] for one in ids}) == len(set(ids))
    )
    return [one[:length] for one in ids]


def table(found: Iterable[JobInfo], ids: Iterable[str]) -> Table:
    """Return a table of jobs, with the ids to show."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown.add_column("job", no_wrap=True)
    shown.add_column("status", no_wrap=True)
    for heading in ("sentences", "done", "in Redis", "age", "expires in"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for shown_id, info in zip(ids, found, strict=True):
        shown.add_row(
            shown_id,
            info.status,
            f"{info.rows:,}",
            f"{100 * info.done / info.rows:.0f} %",
            size(info.bytes),
            duration(time.time() - info.created),
            duration(info.expires_in),
        )
    return shown


def describe(info: JobInfo) -> str:
    """Return a description of a job, with one fact per line."""
    failed = f", {info.failed:,} failed" if info.failed else ""
    lines = {
        "job": info.id,
        "status": info.status,
        "sentences": f"{info.rows:,}, {info.done:,} done{failed}",
        "queue": info.queue,
        "model": info.fingerprint[:8] if info.fingerprint else "none has answered yet",
        "options": info.options,
        "in Redis": f"{size(info.bytes)}, for another {duration(info.expires_in)}",
    }
    return "\n".join(f"{name:<10}  {value}" for name, value in lines.items())


def size(count: int) -> str:
    """Return a number of bytes in a suitable unit."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def follow(found: DurableJob) -> None:
    """Show a progress bar until the job is finished."""
    info = found.info
    with progress_bar.open_bar(info.rows) as shown:
        while True:
            shown.show(info.done)
            if info.finished:
                return
            time.sleep(_POLL_SECONDS)
            info = found.info


def check(output: Path, *, overwrite: bool) -> None:
    """Refuse an output file that is not valid for vectors.

    Raises:
        BadInputValue: it has another suffix.
        OutputError: it exists already, or cannot be written.
    """
    if output.suffix not in (".npy", ".npz"):
        raise BadInputValue(
            f"-o {output}: give a name that ends in .npy, or in .npz for sparse rows"
        )
    output_file.check(output, overwrite=overwrite)


def save(found: DurableJob, output: Path) -> tuple[tuple[int, ...], str]:
    """Write a job's vectors as they arrive; the file gets its name once it is complete.

    Returns:
        Shape and dtype of the vectors.

    Raises:
        BadInputValue: rows of this kind need another suffix.
        OutputError: the file cannot be written.
    """
    part = output.with_name(f"{output.name}.{os.getpid()}.part")
    rows = found.info.rows
    try:
        written, received = None, 0
        with progress_bar.open_bar(rows) as shown:
            for batch in found.batches():
                vectors = batch.vectors
                _check_suffix(output, is_sparse=isinstance(vectors, SparseRows))
                # The total size of other kinds is known only once all rows have arrived.
                if isinstance(vectors, SparseRows) or vectors.ndim != 2:
                    break
                if written is None:
                    shape = (rows, *vectors.shape[1:])
                    written = np.lib.format.open_memmap(part, "w+", vectors.dtype, shape)
                    _reserve(part)
                written[batch.numbers] = vectors
                received += len(batch.numbers)
                shown.show(received)
        if written is None:
            return _save_whole(found, output, part)
        written.flush()
        part.replace(output)
    except CancelledError as error:
        raise BertqError(f"{error}: it has no vectors") from None
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return written.shape, str(written.dtype)


def _save_whole(found: DurableJob, output: Path, part: Path) -> tuple[tuple[int, ...], str]:
    """Wait for all vectors of a job, and write them."""
    vectors = found.result()
    vectors = vectors[0] if isinstance(vectors, tuple) else vectors
    with part.open("wb") as file:
        if isinstance(vectors, SparseRows):
            # The format of scipy.sparse.load_npz; SciPy has no float16.
            vectors = replace(vectors, values=vectors.values.astype(np.float32, copy=False))
            np.savez(
                file, indptr=vectors.indptr, indices=vectors.indices, format=np.array(b"csr"),
                data=vectors.values, shape=np.array(vectors.shape),
            )  # fmt: skip
        else:
            np.save(file, vectors)
    part.replace(output)
    return vectors.shape, str(vectors.dtype)


def _check_suffix(output: Path, *, is_sparse: bool) -> None:
    required = ".npz" if is_sparse else ".npy"
    if output.suffix != required:
        what = "sparse rows" if is_sparse else "vectors"
        raise BadInputValue(
            f"-o {output}: the job has {what}, so give a name that ends in {required}"
        )


def _reserve(path: Path) -> None:
    """Allocate the file's disk space; otherwise a full disk would cause a SIGBUS later."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
