"""Access to ``celery -A bertq flower``: from this machine only, or with a login.

By default, Flower listens on all addresses. It shows the activity of workers and can end them.
"""

import os
from pathlib import Path

import click

from bertq.system import addresses


class LoginRequired(click.ClickException):
    """Flower would accept connections from other machines without a login."""

    exit_code = os.EX_CONFIG


def restrict_address() -> None:
    """Make Flower listen on the loopback interface; refuse other addresses without a login.

    Relies on two properties of Flower 2: tornado holds its options, and it parses the command line
    once more after its configuration file. (The version is pinned, and tests/dashboard checks
    this.)
    """
    import flower.options  # noqa: F401 - defines them
    from tornado.options import options

    options.address = "127.0.0.1"
    parse_count = 0

    def check() -> None:
        nonlocal parse_count
        parse_count += 1
        if parse_count == 1 and Path(options.conf).is_file():
            return  # the file may define a login
        if not (options.unix_socket or options.basic_auth or options.auth):
            _check_address(options.address)

    options.add_parse_callback(check)


def _check_address(address: str) -> None:
    if not addresses.is_loopback(address):
        raise LoginRequired(
            f"--address={address} is open to other machines, and Flower can end workers: set a "
            "login, --basic-auth=USER:PASSWORD or FLOWER_BASIC_AUTH, or leave out --address"
        )
