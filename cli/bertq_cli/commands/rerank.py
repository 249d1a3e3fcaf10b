"""``bertq rerank``: sort documents by their relevance to a query."""

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from bertq.errors import BadInputValue, BertqError, OutputError, RemoteError, SentenceTooLong
from bertq.protocol import time_to_live
from bertq.protocol.encoding import TRUNCATE, Truncate
from bertq_cli import output_file
from bertq_cli.input_options import input_options, open_client
from bertq_cli.paths import NamedPath
from bertq_cli.seconds import Seconds
from bertq_client import BertClient, RankedDocument, inputs, progress_bar
from bertq_client.files import line_errors
from bertq_client.files.line import DEFAULT_FIELD, LineFormat
from bertq_client.files.source import Lines, TextSource, kind_of
from bertq_client.search import rerank as reranking


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("--query", metavar="TEXT", help="The query, if each line of INPUT is a document.")
@click.option(
    "-n",
    "--top-n",
    type=click.IntRange(min=1),
    metavar="N",
    help="The documents to return for a query; by default all.",
)
@click.option(
    "-o",
    "--output",
    type=NamedPath(dir_okay=False),
    help="The file to write; by default standard output.",
)
@input_options(
    timeout="For each batch; by default there is no limit.",
    field="With --query, of .jsonl: the field of the document.",
)
@click.option(
    "--truncate",
    type=click.Choice(TRUNCATE),
    default="right",
    show_default=True,
    help="The end that is cut from a text of a pair that is too long; or refuse it.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--submit", is_flag=True, help="Only submit a durable job, and print its id.")
@click.option(
    "--ttl",
    type=Seconds(),
    metavar="SECONDS",
    help="With --submit: seconds for which the job is stored; by default a day.",
)
@click.option("--job", "job_id", metavar="ID", help="Use the scores of the job of --submit.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress bar.")
def rerank(
    source: str,
    query: str | None,
    top_n: int | None,
    output: Path | None,
    url: str,
    model: str | None,
    queue: str | None,
    timeout: float | None,
    input_format: str | None,
    field: str,
    truncate: Truncate,
    overwrite: bool,
    submit: bool,
    ttl: float | None,
    job_id: str | None,
    quiet: bool,
) -> None:
    """Sort documents by their relevance to a query, as a cross-encoder scores them.

    INPUT is a .jsonl file with an object on each line, {"query": "...", "documents": ["...", ...]};
    the output has a line {"line": 1, "results": [{"index": 3, "score": 0.98}, ...]} for each. With
    --query, each line of INPUT is a document, and the output has a line with score, line number and
    text for each. INPUT may be compressed (.gz); - is standard input.

    With --submit, workers score the documents as a durable job, which needs no command to run. The
    same command with --job instead waits for the scores and writes the output.
    """
    if ttl is not None and not submit:
        raise click.UsageError("--ttl is for the job of --submit: give both")
    if submit and (job_id is not None or output is not None):
        raise click.UsageError("--submit prints only the id of a job: leave out --job and --output")
    kind = kind_of(source, input_format)
    if query is not None:
        inputs.check_text(query, "--query")
    elif kind != "jsonl":
        raise click.UsageError(
            "give --query if each line of INPUT is a document; otherwise INPUT must be .jsonl "
            "(--input-format jsonl)"
        )
    elif field != DEFAULT_FIELD:
        raise click.UsageError("--field is the field of a document: give --query too")
    if output is not None:
        output_file.check(output, source, overwrite=overwrite)
    line_format = _Candidates() if query is None else LineFormat(kind, field, False)
    lines = TextSource(source, line_format, allow_blank=query is not None)
    lines.check(lambda _: None)  # a mistake in a file is reported before anything is sent
    with (
        open_client(url, model, queue, timeout) as client,
        _open(output) as file,
        closing(lines.read()) as numbered,
    ):
        documents: list[tuple[int, str]] = []
        queries: Iterable[tuple[str, list[str]]]
        if query is None:
            queries = ((texts[0], list(texts[1:])) for _, texts in numbered if texts is not None)
        else:
            documents = _read_documents(numbered, lines.name)
            queries = [(query, [text for _, text in documents])]
        if submit:
            seconds = time_to_live.DURABLE_JOB_SECONDS if ttl is None else ttl
            click.echo(client.submit_rerank(queries, ttl=seconds, truncate=truncate).id)
            return
        try:
            if job_id is not None:
                ranked = _rank_job(client, job_id, list(queries), top_n, timeout, lines.name)
            elif query is None:
                ranked = client.rerank_stream(queries, top_n, truncate=truncate)
            else:
                texts = [text for _, text in documents]
                ranked = iter([client.rerank(query, texts, top_n, truncate=truncate)])
        except (RemoteError, SentenceTooLong) as error:
            if query is None:
                raise
            numbers = [number for number, _ in documents]
            raise line_errors.with_line_numbers(error, numbers, lines.name) from None
        if query is None:
            # A bar and results would mix in a terminal.
            is_shown = not quiet and output is not None
            with progress_bar.open_bar(None, is_shown=is_shown, unit="queries") as bar:
                for line, results in enumerate(ranked, 1):
                    print(json.dumps(_document(line, results)), file=file)
                    bar.show(line)
        else:
            for index, score in next(ranked):
                number, text = documents[index]
                print(f"{score:.6f}\t{number}\t{' '.join(text.split())}", file=file)


@dataclass(frozen=True)
class _Candidates(LineFormat):
    """Lines with a query and its documents; a sentence is a list of all of these texts."""

    kind: str = "jsonl"
    field: str = "query"
    is_tokenized: bool = False

    def _check(self, value: Any) -> list[str]:
        query, documents = value
        if not isinstance(query, str) or not query or query.isspace():
            raise BadInputValue("field 'query' must be a str that is not blank")
        if not isinstance(documents, list) or not documents:
            what = "is an empty list: it must have a document"
            must = "must be a list of str"
            raise BadInputValue(f"field 'documents' {what if documents == [] else must}")
        for index, text in enumerate(documents):
            if not isinstance(text, str) or not text or text.isspace():
                raise BadInputValue(f"documents[{index}] must be a str that is not blank")
        return [query, *documents]

    def _parse_json(self, text: str) -> Any:
        try:
            document = json.loads(text)
            return document["query"], document["documents"]
        except (ValueError, RecursionError):
            raise BadInputValue("it is not JSON") from None
        except (KeyError, TypeError, IndexError):
            raise BadInputValue("it is no object with the fields query and documents") from None


def _document(line: int, ranked: Iterable[RankedDocument]) -> dict[str, Any]:
    # Nine digits are enough for a float32.
    results = [{"index": index, "score": float(f"{score:.9g}")} for index, score in ranked]
    return {"line": line, "results": results}


def _read_documents(lines: Lines, name: str) -> list[tuple[int, str]]:
    """Return the lines of a file that are not blank, each with its number."""
    documents = []
    for number, text in lines:
        if text is not None:
            if not isinstance(text, str):
                raise BadInputValue(f"{name}, line {number}: a document must be a str, not a pair")
            documents.append((number, text))
    if not documents:
        raise BadInputValue(f"{name} has no line that is not blank: there is no document")
    return documents


def _rank_job(
    client: BertClient,
    job_id: str,
    queries: Sequence[tuple[str, list[str]]],
    top_n: int | None,
    timeout: float | None,
    name: str,
) -> Iterator[list[RankedDocument]]:
    """Wait for the scores of a durable job; return the documents of each query, best first."""
    job = client.job(job_id)
    sizes = [len(documents) for _, documents in queries]
    rows = job.info.rows
    if rows != sum(sizes):
        raise BadInputValue(
            f"job {job_id} has {rows} documents, and {name} has {sum(sizes)}: give the INPUT that "
            "was submitted"
        )
    try:
        scores = reranking.scores_of(job.result(timeout))
    except CancelledError as error:
        raise BertqError(f"{error}: it has no scores") from None
    ends = itertools.accumulate(sizes)
    return iter(
        [
            reranking.rank(scores[end - size : end], top_n)
            for size, end in zip(sizes, ends, strict=True)
        ]
    )


@contextmanager
def _open(output: Path | None) -> Iterator[TextIO]:
    """Open the output; a file gets its name once it is complete."""
    if output is None:
        yield sys.stdout
        return
    part = output.with_name(f"{output.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
