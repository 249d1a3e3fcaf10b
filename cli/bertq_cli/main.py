"""The ``bertq`` command and its sub-commands."""

import sys

import click

import bertq
from bertq.errors import BertqError
from bertq_cli.demo import demo


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bertq.__version__, prog_name="bertq")
def cli() -> None:
    """BERT sentence vectors through a durable queue."""


cli.add_command(demo)


def main() -> None:
    """Run the command; an error of ours is one line, without a traceback."""
    try:
        cli(prog_name="bertq")
    except BertqError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
