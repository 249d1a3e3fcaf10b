"""The ``bertq`` command and its sub-commands."""

import os
import signal
import sys

import click

import bertq
from bertq.errors import BertqError
from bertq_cli.lazy_group import LazyGroup

#: Module and function of each command.
_COMMANDS = {
    "bench": "bench.command:bench",
    "convert": "commands.convert:convert",
    "demo": "commands.demo:demo",
    "download": "commands.download:download",
    "encode": "commands.encode:encode",
    "health": "commands.health:check",
    "http": "commands.http:http",
    "int8-ranges": "commands.int8_ranges:int8_ranges",
    "job": "commands.jobs:job",
    "jobs": "commands.jobs:jobs",
    "purge": "commands.purge:purge_queue",
    "redis": "commands.redis_server:redis",
    "serve": "commands.serve:serve",
    "status": "commands.status:show",
}


@click.group(
    cls=LazyGroup, locations=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(bertq.__version__, prog_name="bertq")
def cli() -> None:
    """Sentence vectors through a durable queue."""


def main() -> None:
    """Run the command; print an error of bertq on one line, without a traceback."""
    try:
        cli(prog_name="bertq")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BertqError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        # Standard output is broken. Replace it, so that the rest of its buffer does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
