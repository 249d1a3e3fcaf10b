"""``bertq encode``: encode a file of sentences into a file of vectors."""

import signal
from pathlib import Path
from typing import Any

import click

from bertq.protocol import encoding
from bertq_cli.help import print_warning
from bertq_cli.input_options import input_options, open_client
from bertq_cli.paths import NamedPath
from bertq_cli.wording import for_command_line
from bertq_client.files.run_options import BLANK


@click.command()
@click.argument("source", metavar="INPUT")
@click.option(
    "-o",
    "--output",
    type=NamedPath(dir_okay=False),
    required=True,
    help="The file to write, .npy or .jsonl.",
)
@input_options(
    timeout="For each batch, from the moment it is sent; by default there is no limit.",
    field="Of .jsonl, the field of the sentence, or of a pair: a list of two.",
)
@click.option(
    "--blank",
    type=click.Choice(BLANK),
    default="error",
    show_default=True,
    help="Whether a blank line is an error, gets a row of zeros, or gets no row.",
)
@click.option("--tokenized", is_flag=True, help="Sentences are tokens, looked up as they are.")
@click.option(
    "--prompt-name", metavar="NAME", help="The model's prompt that goes before each sentence."
)
@click.option("--prompt", metavar="TEXT", help="A prompt of your own; '' for none.")
@click.option("--input-type", metavar="TYPE", help="query, document, or the name of a prompt.")
@click.option(
    "--normalize/--no-normalize",
    default=None,
    help="Vectors of length 1, or not; else as the model's directory says.",
)
@click.option(
    "--dimensions",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Keep the first N numbers of each vector.",
)
@click.option(
    "--pairs/--no-pairs",
    default=None,
    help='Whether "first ||| second" is a pair of sentences; else as the model says.',
)
@click.option(
    "--truncate",
    type=click.Choice(encoding.TRUNCATE),
    default="right",
    show_default=True,
    help="The end that is cut off a long sentence; or refuse it.",
)
@click.option(
    "--precision",
    type=click.Choice(tuple(encoding.PRECISIONS)),
    default="float32",
    show_default=True,
    help="Type of the numbers.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 1_000_000),
    help="Sentences of a request; else 1024, fewer of large rows.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress bar.")
def encode(
    source: str,
    output: Path,
    url: str,
    model: str | None,
    queue: str | None,
    timeout: float | None,
    tokenized: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Encode the sentences of INPUT into a file of vectors, in the same order.

    INPUT is a text file with a sentence on each line, or a .jsonl file. Either may be compressed
    (.gz); - is standard input.
    """
    try:
        with open_client(url, model, queue, timeout) as client:
            made = client.encode_file(
                source, output, is_tokenized=tokenized, progress=not quiet, **options
            )
    except (KeyboardInterrupt, SystemExit) as error:
        click.echo("interrupted", err=True)
        for note in getattr(error, "__notes__", ()):
            click.echo(for_command_line(note), err=True)
        interrupted = 128 + signal.SIGINT
        raise SystemExit(error.code if isinstance(error, SystemExit) else interrupted) from None
    if made.cut:
        what = "1 sentence was" if made.cut == 1 else f"{made.cut} sentences were"
        print_warning(f"{what} cut to the number of tokens that the model reads")
    click.echo(f"{made.path}: {made.rows} rows, kept {made.kept}, encoded {made.encoded}")
