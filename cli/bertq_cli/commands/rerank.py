"""``bertq rerank``: sort documents by their relevance to a query."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from bertq.errors import BadInputValue, OutputError, RemoteError, SentenceTooLong
from bertq.protocol.encoding import TRUNCATE, Truncate
from bertq_cli import output_file
from bertq_cli.input_options import input_options, open_client
from bertq_client import BertClient, RankedDocument, inputs, progress_bar
from bertq_client.files import line_errors
from bertq_client.files.line import DEFAULT_FIELD, LineFormat
from bertq_client.files.source import Lines, TextSource, kind_of


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
    type=output_file.OutputPath(),
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
    quiet: bool,
) -> None:
    """Sort documents by their relevance to a query, as a cross-encoder scores them.

    INPUT is a .jsonl file with an object on each line, {"query": "...", "documents": ["...", ...]};
    the output has a line {"line": 1, "results": [{"index": 3, "score": 0.98}, ...]} for each. With
    --query, each line of INPUT is a document, and the output has a line with score, line number and
    text for each. INPUT may be compressed (.gz); - is standard input.
    """
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
        if query is None:
            requests = ((texts[0], list(texts[1:])) for _, texts in numbered if texts is not None)
            ranked = client.rerank_stream(requests, top_n, truncate=truncate)
            # A bar and results would mix in a terminal.
            is_shown = not quiet and output is not None
            with progress_bar.open_bar(None, is_shown=is_shown) as bar:
                for line, results in enumerate(ranked, 1):
                    print(json.dumps(_document(line, results)), file=file)
                    bar.show(line)
        else:
            _rerank_lines(client, query, numbered, top_n, truncate, lines.name, file)


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


def _rerank_lines(
    client: BertClient,
    query: str,
    lines: Lines,
    top_n: int | None,
    truncate: Truncate,
    name: str,
    file: TextIO,
) -> None:
    """Sort the lines of a file with a name; print score, number and text of each."""
    numbers, texts = [], []
    for number, text in lines:
        if text is not None:
            if not isinstance(text, str):
                raise BadInputValue(f"{name}, line {number}: a document must be a str, not a pair")
            numbers.append(number)
            texts.append(text)
    if not texts:
        raise BadInputValue(f"{name} has no line that is not blank: there is no document")
    try:
        ranked = client.rerank(query, texts, top_n, truncate=truncate)
    except (RemoteError, SentenceTooLong) as error:
        raise line_errors.with_line_numbers(error, numbers, name) from None
    for index, score in ranked:
        print(f"{score:.6f}\t{numbers[index]}\t{' '.join(texts[index].split())}", file=file)


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
