"""Options that ``bertq encode`` and ``bertq int8-ranges`` share: workers, timeout, input format."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from bertq_cli.redis_option import redis_option
from bertq_cli.seconds import Seconds
from bertq_client.files.line import KINDS

_F = TypeVar("_F", bound=Callable[..., Any])


def input_options(*, timeout: str, field: str) -> Callable[[_F], _F]:
    """Return the options of a command that encodes a file: workers, timeout and input format.

    Args:
        timeout, field: descriptions of ``--timeout`` and ``--field``, for the help.
    """
    options = (
        redis_option("The Redis of the workers."),
        click.option("--model", metavar="NAME", help="Workers of this --model-name."),
        click.option(
            "--queue", metavar="QUEUE", help="One queue, gpu0, instead of the shared ones."
        ),
        click.option(
            "--timeout",
            type=Seconds(),
            metavar="SECONDS",
            help=timeout,
        ),
        click.option(
            "--input-format",
            type=click.Choice(KINDS),
            help="Format of the input, if its name does not tell.",
        ),
        click.option("--field", default="text", show_default=True, help=field),
    )

    def decorate(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
