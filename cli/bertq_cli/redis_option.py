"""The ``--redis-url`` option, shared by all commands that connect to a Redis."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from bertq.redis import redis_url

_F = TypeVar("_F", bound=Callable[..., Any])


def redis_option(text: str) -> Callable[[_F], _F]:
    """Return the option ``--redis-url``; a command gets the checked URL as ``url``.

    Args:
        text: description of that Redis, for the help.
    """
    return click.option(
        "--redis-url",
        "url",
        envvar="BERTQ_REDIS_URL",
        default=redis_url.DEFAULT,
        show_default=True,
        metavar="URL",
        callback=lambda _context, _parameter, url: redis_url.check(url, "--redis-url"),
        help=f"{text} [BERTQ_REDIS_URL]",
    )
