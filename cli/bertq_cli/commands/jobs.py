"""``bertq jobs`` and ``bertq job``: list, show, fetch and cancel durable jobs."""

import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import CancelledError
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from bertq.errors import BadInputValue, BertqError
from bertq.redis import redis_url
from bertq.state.durable_jobs import JobInfo
from bertq_cli.commands.status import duration
from bertq_cli.redis_option import redis_option
from bertq_client import BertClient, DurableJob, SparseRows, progress_bar

#: Seconds between two queries of a watched job.
_POLL_SECONDS = 0.5

_redis_option = redis_option("The Redis that keeps the jobs.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@_redis_option
@_json_option
def jobs(url: str, as_json: bool) -> None:
    """List the jobs that are kept, the oldest first."""
    with BertClient(redis_url=url) as client:
        found = client.jobs()
    if as_json:
        click.echo(json.dumps([asdict(info) for info in found], indent=2))
    elif found:
        Console(highlight=False).print(table(found))
    else:
        click.echo(f"no job is kept in Redis at {redis_url.redact(url)}")


@click.command()
@click.argument("job_id", metavar="ID")
@_redis_option
@_json_option
@click.option("--watch", is_flag=True, help="Show how far it is, until it is finished.")
@click.option("--cancel", is_flag=True, help="Give it up, and remove its texts and rows.")
@click.option("--discard", is_flag=True, help="Remove all of it, finished or not.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
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
    """Show a job, wait for it, fetch its vectors, or end it.

    Exit status 1 where it has failed or was cancelled.
    """
    if sum((watch, cancel, discard, output is not None)) > 1:
        raise click.UsageError("take one of --watch, --cancel, --discard and -o")
    if output is not None:
        check(output, overwrite=overwrite)
    with BertClient(redis_url=url) as client:
        found = client.job(job_id)
        if cancel:
            click.echo("cancelled" if found.cancel() else f"it was {found.status} before")
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


def table(found: Iterable[JobInfo]) -> Table:
    """Return a table of jobs."""
    shown = Table("job", "status", "sentences", "done", "in Redis", "age", "kept for")
    for column in shown.columns[2:]:
        column.justify = "right"
    shown.columns[0].overflow = "fold"  # a truncated id is of no use
    for info in found:
        shown.add_row(
            info.id,
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
        BadInputValue: it has another suffix, or exists already.
    """
    if output.suffix not in (".npy", ".npz"):
        raise BadInputValue(f"{output}: vectors are written as .npy, sparse rows as .npz")
    if output.exists() and not overwrite:
        raise BadInputValue(f"{output} is there already: --overwrite replaces it")


def save(found: DurableJob, output: Path) -> tuple[tuple[int, ...], str]:
    """Write a job's vectors as they arrive; the file gets its name once it is complete.

    Returns:
        Shape and dtype of the vectors.

    Raises:
        BadInputValue: rows of this kind need another suffix.
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
        raise BadInputValue(f"{output}: the job has {what}, which are written as {required}")


def _reserve(path: Path) -> None:
    """Allocate the file's disk space; otherwise a full disk would cause a SIGBUS later."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
