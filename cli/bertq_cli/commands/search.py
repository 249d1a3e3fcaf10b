"""``bertq search``: the lines of a file that are nearest to a query."""

from pathlib import Path

import click

from bertq.errors import BadInputValue
from bertq_cli.input_options import input_options, open_client
from bertq_cli.paths import NamedPath
from bertq_client import inputs
from bertq_client.files import manifest
from bertq_client.files.line import LineFormat
from bertq_client.files.row_lines import read_lines_of_rows
from bertq_client.files.source import TextSource, kind_of
from bertq_client.search import similarity


@click.command()
@click.argument("vectors", metavar="VECTORS", type=NamedPath(dir_okay=False))
@click.argument("source", metavar="INPUT")
@click.argument("query", metavar="QUERY")
@click.option(
    "-n",
    "--top-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="The lines to show.",
)
@click.option(
    "--function",
    type=click.Choice(tuple(similarity.FUNCTIONS)),
    help="How to compare vectors; by default as the model's authors say, or cosine.",
)
@click.option(
    "--int8-ranges",
    type=NamedPath(dir_okay=False),
    metavar="FILE",
    help="For int8 and uint8 vectors: the file that the workers have as --int8-ranges.",
)
@click.option(
    "--rescore-with",
    type=NamedPath(dir_okay=False),
    metavar="FILE",
    help="The float vectors of the same lines (.npy): the best candidates are compared again.",
)
@input_options(
    timeout="For the query; by default there is no limit.",
    field="Of .jsonl, the field of the sentence.",
)
def search(
    vectors: Path,
    source: str,
    query: str,
    top_k: int,
    function: str | None,
    int8_ranges: Path | None,
    rescore_with: Path | None,
    url: str,
    model: str | None,
    queue: str | None,
    timeout: float | None,
    input_format: str | None,
    field: str,
) -> None:
    """Show the lines of INPUT whose vectors are nearest to those of QUERY.

    VECTORS is the .npy file that bertq encode has made of INPUT. It is compared as a whole, in
    blocks of bounded memory. Each line of the output has the similarity, the line number and the
    text.
    """
    inputs.check_text(query, "QUERY")
    line_format = LineFormat(kind_of(source, input_format), field, False)
    lines = TextSource(source, line_format, allow_blank=True)
    with open_client(url, model, queue, timeout) as client:
        (found,) = client.semantic_search(
            [query],
            vectors,
            top_k,
            function=function,
            int8_ranges=int8_ranges,
            rescore_with=rescore_with,
        )
    known = manifest.load(manifest.path_of(vectors))
    if known is not None and known.input is not None:
        lines.check(lambda _: None)  # reads all of it, as the vectors were
        if lines.identity not in (None, known.input):
            click.echo(
                f"warning: {lines.name} is not the file that {vectors} was made of, or has "
                "changed: the lines below may belong to other vectors",
                err=True,
            )
    texts = read_lines_of_rows(
        lines,
        [document.index for document in found],
        skips_blanks=known is not None and known.options.get("blank") == "skip",
    )
    if len(texts) < len(found):
        raise BadInputValue(
            f"{vectors} has more rows than {lines.name} has lines: it was made of another file"
        )
    for index, score in found:
        number, sentence = texts[index]
        text = sentence if isinstance(sentence, str) else " ||| ".join(sentence or ())
        click.echo(f"{score:.6f}\t{number}\t{' '.join(text.split())}")
