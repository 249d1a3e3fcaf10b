"""``bertq redis``: run the embedded server alone. ``bertq serve`` shares its options."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bertq_cli.paths import NamedPath
from bertq_cli.service import embedded_redis
from bertq_cli.service.embedded_redis import Server

_OPTIONS = (
    click.option(
        "--host", default="127.0.0.1", show_default=True, help="Address of the embedded Redis."
    ),
    click.option(
        "--port",
        type=click.IntRange(1, 65535),
        envvar="BERTQ_REDIS_PORT",
        default=6379,
        show_default=True,
        metavar="PORT",
        help="Port of the embedded Redis. [BERTQ_REDIS_PORT]",
    ),
    click.option(
        "--password",
        envvar="BERTQ_REDIS_PASSWORD",
        default="",
        metavar="PASSWORD",
        help="Password of the embedded Redis, needed if --host is open to other machines; better "
        "given as BERTQ_REDIS_PASSWORD, where other users do not see it.",
    ),
    click.option(
        "--data-dir",
        type=NamedPath(),
        envvar="BERTQ_DATA_DIR",
        metavar="DIR",
        help="Where the embedded Redis keeps its queue; by default a directory of the user's, one "
        "for each port. [BERTQ_DATA_DIR]",
    ),
)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the embedded server to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def server_from_options(host: str, port: int, password: str, data_dir: Path | None) -> Server:
    """Return the server that the options specify, checked.

    Raises:
        SettingsError, ProcessFailed: as in ``Server.check``.
    """
    directory = (data_dir or embedded_redis.default_data_dir(port)).absolute()
    embedded = Server(host, port, directory, password)
    embedded.check()
    return embedded


@click.command()
@server_options
def redis(**options: Any) -> None:
    """Run the embedded Redis alone: a Valkey server that keeps its queue on disk."""
    embedded = server_from_options(**options)
    binary = str(embedded_redis.find_binary())
    with embedded_redis.lock_data_dir(embedded.data_dir) as lock:
        # This process becomes the server, which has the lock for as long as it lives.
        os.set_inheritable(lock, True)
        read_end, write_end = os.pipe()
        os.write(write_end, embedded.configuration().encode())
        os.close(write_end)
        os.dup2(read_end, 0)
        os.execv(binary, [binary, "-"])
