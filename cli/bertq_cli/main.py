"""The ``bertq`` command and its sub-commands."""

import os
import signal
import sys

import click

import bertq
from bertq.errors import BertqError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bertq.__version__, prog_name="bertq")
def cli() -> None:
    """BERT sentence vectors through a durable queue."""


def main() -> None:
    """Run the command; an error of ours is one line, without a traceback."""
    try:
        # Here, because it takes a moment, in which Ctrl-C may come.
        from bertq_cli.bench.command import bench
        from bertq_cli.demo import demo
        from bertq_cli.embedded import redis
        from bertq_cli.encode import encode
        from bertq_cli.health import check
        from bertq_cli.http import http
        from bertq_cli.jobs import job, jobs
        from bertq_cli.serve import serve
        from bertq_cli.status import show

        for command in (bench, check, demo, encode, http, job, jobs, redis, serve, show):
            cli.add_command(command)
        cli(prog_name="bertq")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BertqError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        # Nobody can be told on standard output; what is left in its buffer must not come again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
