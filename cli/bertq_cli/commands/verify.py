"""``bertq verify``: whether the workers still make the vectors of a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from numpy.typing import NDArray

from bertq.errors import BadInputValue
from bertq.protocol.encoding import Options
from bertq_cli.input_options import open_client, worker_options
from bertq_cli.paths import NamedPath
from bertq_client import BertClient
from bertq_client.files import manifest
from bertq_client.files.formats import pad_rows
from bertq_client.files.line import DEFAULT_FIELD, LineFormat, Sentence
from bertq_client.files.manifest import Manifest
from bertq_client.files.row_lines import read_lines_of_rows
from bertq_client.files.run_options import digest_prompt
from bertq_client.files.source import TextSource

#: Rows that are encoded again.
_SAMPLE_ROWS = 256

#: Options of a file that are passed on to the workers.
_OPTIONS = (
    "normalize",
    "truncate",
    "precision",
    "pairs",
    "prompt_name",
    "input_type",
    "dimensions",
)

#: Greatest distance of two rows that count as equal, as a part of their length. With bfloat16, a
#: row differs by some hundredths if its batch is another one; the rows of other models by far more.
_MAX_DISTANCE = 0.05

#: Greatest part of the bits that may differ: a number near zero may change its sign.
_MAX_DIFFERENT_BITS = 0.02


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("vectors", metavar="VECTORS", type=NamedPath(dir_okay=False))
@worker_options(timeout="For the sample; by default there is no limit.")
@click.option(
    "--rows",
    "sample",
    type=click.IntRange(1, 1_000_000),
    default=_SAMPLE_ROWS,
    show_default=True,
    metavar="N",
    help="The rows to encode again, spread over the file.",
)
@click.option(
    "--prompt", metavar="TEXT", help="The prompt of the file, if it was made with --prompt."
)
def verify(
    source: str,
    vectors: Path,
    url: str,
    model: str | None,
    queue: str | None,
    timeout: float | None,
    sample: int,
    prompt: str | None,
) -> None:
    """Encode some lines of INPUT again, and compare them with their rows in VECTORS.

    VECTORS is a .npy file that bertq encode has made of INPUT; the file .json beside it says with
    which model and options. Prints "same", or what has changed: model, input, rows. The exit status
    is 0 if all is the same, otherwise 1.
    """
    file = _open(vectors)
    options = _options(file.made, prompt, vectors)
    lines = TextSource(source, _line_format(file.made), allow_blank=True)
    lines.check(lambda _: None)
    rows = np.unique(np.linspace(0, len(file.rows) - 1, sample).astype(np.int64)).tolist()
    found = read_lines_of_rows(lines, rows, skips_blanks=file.made.options["blank"] == "skip")
    with open_client(url, model, queue, timeout) as client:
        made, fingerprint = _encode(client, found, file.made, options)
    changes = [
        *_changes_of_model(file.made, fingerprint),
        *_changes_of_input(file.made, lines),
        *_changes_of_rows(file, made, found, missing=len(rows) - len(found)),
    ]
    for change in changes:
        click.echo(f"changed: {change}")
    if changes:
        raise SystemExit(1)
    dimensions = " x ".join(map(str, file.made.row_shape))
    click.echo(
        f"same: {len(found)} of {len(file.rows)} rows compared, model {fingerprint[:12]}, "
        f"{dimensions} numbers, {file.rows.dtype}"
    )


@dataclass(frozen=True)
class _VectorFile:
    """A file of vectors.

    Attributes:
        rows: its rows, mapped from the file.
        made: how it was made.
    """

    rows: NDArray[Any]
    made: Manifest


def _open(path: Path) -> _VectorFile:
    """Return the rows of a file, and how it was made.

    Raises:
        BadInputValue: ``bertq encode`` has not written or completed it, or it is damaged.
    """
    if path.suffix != ".npy":
        raise BadInputValue(f"{path}: only vectors in .npy files can be verified")
    made = manifest.load(manifest.path_of(path))
    if made is None:
        raise BadInputValue(
            f"{path.name}.json, which says how {path} was made, does not exist: bertq encode "
            "writes it beside the vectors"
        )
    if not made.complete:
        raise BadInputValue(f"{path} is not complete: let bertq encode --resume finish it")
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise BadInputValue(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise BadInputValue(f"{path} is damaged: it is not a .npy file of numbers") from None
    if rows.shape != (made.position.rows, *made.row_shape):
        shapes = [" x ".join(map(str, shape)) for shape in (rows.shape, made.row_shape)]
        raise BadInputValue(
            f"{path} has {shapes[0]} numbers, and its manifest says {made.position.rows} rows of "
            f"{shapes[1]}: another program has replaced it"
        )
    return _VectorFile(rows, made)


def _options(made: Manifest, prompt: str | None, path: Path) -> Options:
    """Return the options that the file was made with.

    Raises:
        BadInputValue: the prompt is needed, or it is another one.
    """
    digest = made.options["prompt"]
    if digest != digest_prompt(prompt):
        if prompt is None and digest:
            raise BadInputValue(
                f"{path} was made with a prompt, which is not stored with it: give it as --prompt"
            )
        if prompt is not None:
            raise BadInputValue(f"{path} was made with another prompt, or with none")
        prompt = digest
    options: Any = {name: made.options[name] for name in _OPTIONS} | {"prompt": prompt}
    return cast(Options, options)


def _line_format(made: Manifest) -> LineFormat:
    return LineFormat(
        made.options["input_format"],
        made.options["field"] or DEFAULT_FIELD,
        made.options["is_tokenized"],
    )


def _encode(
    client: BertClient,
    found: dict[int, tuple[int, Sentence | None]],
    made: Manifest,
    options: Options,
) -> tuple[dict[int, NDArray[Any]], str]:
    """Return new rows of the lines that are not blank, and the fingerprint of their model."""
    rows = [row for row, (_, sentence) in found.items() if sentence is not None]
    if not rows:
        raise BadInputValue("no row of the sample has a line that is not blank: nothing to compare")
    texts: list[Any] = [found[row][1] for row in rows]
    future = client.encode_async(texts, made.options["is_tokenized"], **options)
    try:
        vectors = future.result()
    finally:
        future.cancel()
    if not isinstance(vectors, np.ndarray):
        raise BadInputValue("the workers return sparse rows: the file was made with another model")
    if vectors.ndim == 3 and len(made.row_shape) == 2:
        vectors = pad_rows(vectors, made.row_shape)
    return dict(zip(rows, vectors, strict=True)), future.fingerprint


def _changes_of_model(made: Manifest, fingerprint: str) -> list[str]:
    if made.fingerprint == fingerprint:
        return []
    return [
        f"model: the vectors were made with {made.fingerprint[:12]}, and the workers have "
        f"{fingerprint[:12]} (another model, or other settings of the workers)"
    ]


def _changes_of_input(made: Manifest, lines: TextSource) -> list[str]:
    before, now = made.input, lines.identity
    if before is None or now is None or before == now:
        return []
    counts = (
        f"it has {now.lines} lines instead of {before.lines}"
        if now.lines != before.lines
        else "some of its lines are different"
    )
    return [f"input: {lines.name} is not the file that was encoded, {counts}"]


def _changes_of_rows(
    file: _VectorFile,
    made: dict[int, NDArray[Any]],
    found: dict[int, tuple[int, Sentence | None]],
    *,
    missing: int,
) -> list[str]:
    """Return what has changed in the rows of the sample."""
    changes = []
    if missing:
        changes.append(f"rows: {missing} of {len(found) + missing} have no line any more")
    distances = {}
    for row, (number, _) in found.items():
        old = np.asarray(file.rows[row])
        new = made.get(row, np.zeros_like(old))
        if old.shape != new.shape:
            shapes = [" x ".join(map(str, vector.shape)) for vector in (old, new)]
            return [*changes, f"rows: {shapes[0]} numbers in the file, {shapes[1]} now"]
        distance = _distance(old, new, file.made.options["precision"])
        if distance > 0:
            distances[number] = distance
    if distances:
        first = next(iter(distances))
        changes.append(
            f"rows: {len(distances)} of {len(found)} differ, the first is that of line {first} "
            f"(distance {distances[first]:.3f})"
        )
    return changes


def _distance(old: NDArray[Any], new: NDArray[Any], precision: str) -> float:
    """Return the distance of two rows, as a part of their length; 0 for equal ones."""
    if precision in ("binary", "ubinary"):
        bits = np.unpackbits(old.view(np.uint8) ^ new.view(np.uint8))
        part = float(bits.mean())
        return part if part > _MAX_DIFFERENT_BITS else 0.0
    a, b = old.astype(np.float64).ravel(), new.astype(np.float64).ravel()
    length = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
    distance = float(np.linalg.norm(a - b)) / length if length else 0.0
    return distance if distance > _MAX_DISTANCE else 0.0
