"""``bertq int8-ranges``: find the range of each dimension of a model's vectors in a corpus."""

import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from bertq.errors import BadInputValue, ModelMismatch, OutputError
from bertq.protocol.encoding import Options
from bertq_cli import output_file
from bertq_cli.input_options import input_options, open_client
from bertq_cli.paths import NamedPath
from bertq_client import BertClient
from bertq_client.files.line import LineFormat
from bertq_client.files.source import TextSource, kind_of
from bertq_client.streaming.stream import Batch

#: With fewer vectors, later ones often exceed the ranges.
_MIN_ADVISED_TEXTS = 1000


class Ranges:
    """The smallest and largest number of each column, over all rows so far.

    Attributes:
        fingerprint: fingerprint of the rows' model.
        rows: number of rows.
    """

    def __init__(self) -> None:
        self.fingerprint = ""
        self.rows = 0
        self._low = self._high = np.zeros(0, np.float32)

    def add(self, vectors: NDArray[np.float32], fingerprint: str) -> None:
        """Include rows of a model.

        Raises:
            BadInputValue: they are not vectors of the same length, or a number is not finite.
            ModelMismatch: they come from another model than the earlier rows.
        """
        if not isinstance(vectors, np.ndarray) or vectors.ndim != 2:
            raise BadInputValue("the model does not give one vector for each text: no ranges")
        if not np.isfinite(vectors).all():
            raise BadInputValue("a vector has a number that is not finite: no ranges")
        if not self.rows:
            self.fingerprint = fingerprint
            self._low, self._high = vectors[0].copy(), vectors[0].copy()
        if fingerprint != self.fingerprint:
            raise ModelMismatch(
                "the workers changed to another model: the ranges would mix the two"
            )
        if vectors.shape[1] != len(self._low):
            raise BadInputValue(
                f"vectors of {vectors.shape[1]} numbers came after those of {len(self._low)}"
            )
        self._low = np.minimum(self._low, vectors.min(axis=0))
        self._high = np.maximum(self._high, vectors.max(axis=0))
        self.rows += len(vectors)

    def document(self) -> dict[str, Any]:
        """Return the contents of the output file."""
        # The shortest text that parses to the same float32.
        ranges = [[float(str(number)) for number in row] for row in (self._low, self._high)]
        return {"model": self.fingerprint, "rows": self.rows, "ranges": ranges}


@click.command(name="int8-ranges")
@click.argument("corpus", metavar="CORPUS")
@click.option(
    "-o",
    "--output",
    type=NamedPath(dir_okay=False),
    required=True,
    help="The file to write, for --int8-ranges of the workers.",
)
@click.option(
    "--dimensions",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="For vectors that are cut to N dimensions.",
)
@click.option("--input-type", metavar="TYPE", help="query, document, or the name of a prompt.")
@click.option(
    "--prompt", metavar="TEXT", help="Text before each text, where the model has no such prompt."
)
@input_options(
    timeout="For each batch; by default there is no limit.",
    field="Of .jsonl, the field of the text.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress bar.")
def int8_ranges(
    corpus: str,
    output: Path,
    dimensions: int | None,
    input_type: str | None,
    prompt: str | None,
    url: str,
    model: str | None,
    queue: str | None,
    timeout: float | None,
    input_format: str | None,
    field: str,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Encode the texts of CORPUS and write the range of each dimension of their vectors.

    CORPUS is a text file with a text on each line, or a .jsonl file. Either may be compressed
    (.gz); - is standard input. Blank lines are left out. Workers that are started with
    --int8-ranges FILE answer requests with the precision int8 and uint8 by these ranges. A few
    thousand texts like those that will be encoded are enough.
    """
    output_file.check(output, overwrite=overwrite)
    line_format = LineFormat(kind_of(corpus, input_format), field, False)
    source = TextSource(corpus, line_format, allow_blank=True)
    options: Options = {"dimensions": dimensions, "input_type": input_type, "prompt": prompt}
    ranges = Ranges()
    try:
        with open_client(url, model, queue, timeout) as client:
            _check_task(client, model)
            with (
                closing(source.read()) as lines,
                closing(
                    client.encode_stream(_sentences(lines), progress=not quiet, **options)
                ) as batches,
            ):
                _add_all(ranges, batches)
            if not ranges.rows:
                raise source.empty()
        _write(output, ranges.document())
    except KeyboardInterrupt:
        click.echo("interrupted: nothing was written", err=True)
        raise SystemExit(128 + signal.SIGINT) from None
    if ranges.rows < _MIN_ADVISED_TEXTS:
        click.echo(
            f"only {ranges.rows} texts: ranges of {_MIN_ADVISED_TEXTS:,} or more are better",
            err=True,
        )
    width = len(ranges.document()["ranges"][0])
    click.echo(f"{output}: ranges of {width} dimensions, from {ranges.rows} vectors")


def _add_all(ranges: Ranges, batches: Iterable[Batch]) -> None:
    for batch in batches:
        ranges.add(batch.vectors, batch.fingerprint)


def _sentences(lines: Iterable[tuple[int, Any]]) -> Iterator[Any]:
    return (sentence for _, sentence in lines if sentence is not None)


def _check_task(client: BertClient, model: str | None) -> None:
    """Refuse a model that gives no vectors.

    Raises:
        BadInputValue: its workers give scores, sparse rows or a vector for each token.
    """
    what = {"score": "scores", "sparse": "sparse rows"}
    for config in client.server_config.values():
        if config["model_name"] != model:
            continue
        name, task = config["model"], config["task"]
        if task in what:
            raise BadInputValue(f"{name} gives {what[task]}: int8 and uint8 are for vectors")
        if len(config["row_shape"]) != 1:
            raise BadInputValue(f"{name} gives a vector for each token, not one for each text")


def _write(output: Path, document: dict[str, Any]) -> None:
    """Write the file: a reader sees all of it or nothing."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
