"""What ``celery -A bertq flower`` may do: be seen by this machine, or by those who log in.

Flower listens on all addresses unless it is told, shows what the workers do, and can end them.
"""

import os
from pathlib import Path

import click

from bertq.system import addresses


class Unguarded(click.ClickException):
    """Flower would be open to others."""

    exit_code = os.EX_CONFIG


def guard() -> None:
    """Have Flower listen on the loopback interface, and refuse another one without a login.

    Relies on Flower 2 (the version is pinned, and tests/dashboard looks at it) having its options
    with tornado, and parsing the command line once more after its configuration file.
    """
    import flower.options  # noqa: F401 - defines them
    from tornado.options import options

    options.address = "127.0.0.1"
    parsed = 0

    def check() -> None:
        nonlocal parsed
        parsed += 1
        if parsed == 1 and Path(options.conf).is_file():
            return  # a login may be in there
        if not (options.unix_socket or options.basic_auth or options.auth):
            _check_address(options.address)

    options.add_parse_callback(check)


def _check_address(address: str) -> None:
    if not addresses.is_loopback(address):
        raise Unguarded(
            f"--address={address} is for others too, and Flower can end workers: give it a login, "
            "--basic-auth=USER:PASSWORD or FLOWER_BASIC_AUTH, or leave --address out"
        )
