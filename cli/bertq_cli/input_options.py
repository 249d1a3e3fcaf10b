"""Options of the commands that encode files: workers, timeout and input format."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from bertq_cli.redis_option import redis_option
from bertq_cli.seconds import Seconds
from bertq_cli.signals import exit_on_signals
from bertq_client import BertClient
from bertq_client.files.line import DEFAULT_FIELD, KINDS

_F = TypeVar("_F", bound=Callable[..., Any])


def worker_options(*, timeout: str) -> Callable[[_F], _F]:
    """Return the options that say which workers encode; ``open_client`` takes their values.

    Args:
        timeout: description of ``--timeout``, for the help.
    """
    return _all_of(
        redis_option("The Redis of the workers."),
        click.option("--model", metavar="NAME", help="Workers of this --model-name."),
        click.option(
            "--queue", metavar="QUEUE", help="One queue, gpu0, instead of the shared ones."
        ),
        click.option("--timeout", type=Seconds(), metavar="SECONDS", help=timeout),
    )


def input_options(*, timeout: str, field: str) -> Callable[[_F], _F]:
    """Return the options of a command that encodes a file: workers, timeout and input format.

    Args:
        timeout, field: descriptions of ``--timeout`` and ``--field``, for the help.
    """
    return _all_of(
        worker_options(timeout=timeout),
        click.option(
            "--input-format",
            type=click.Choice(KINDS),
            help="Format of the input, if its name does not tell.",
        ),
        click.option("--field", default=DEFAULT_FIELD, show_default=True, help=field),
    )


@contextmanager
def open_client(
    url: str, model: str | None, queue: str | None, timeout: float | None
) -> Iterator[BertClient]:
    """Open a client of the workers that the options name; SIGTERM and SIGHUP end the command."""
    with (
        exit_on_signals(),
        BertClient(
            redis_url=url, model=model, queue=queue, timeout=timeout, check_length=False
        ) as client,
    ):
        yield client


def _all_of(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Return a decorator that adds options, in this order."""

    def decorate(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
